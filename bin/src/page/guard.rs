//! Who may see the page, and what browsers are told about it. Pure.

use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use hyper::{
    HeaderMap,
    header::{HeaderName, HeaderValue},
};
use subtle::ConstantTimeEq as _;

use crate::http::is_meant;

/// What nobody guesses.
const TOKEN_BYTES: usize = 16;

/// Told with every answer: nothing comes from elsewhere, nothing is text that becomes code, nobody else embeds or reads it.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];

/// The secret part of an address.
pub(super) struct Token(String);

impl Token {
    pub(super) fn random() -> Self {
        Self(HEXLOWER.encode(&rand::random::<[u8; TOKEN_BYTES]>()))
    }
}

/// Decides who may look.
pub(super) struct Guard {
    address: SocketAddr,
    /// None where only this machine comes.
    token: Option<Token>,
}

impl Guard {
    /// `token`: makes one, which is asked for unless only this machine can come.
    pub(super) fn new(address: SocketAddr, token: impl FnOnce() -> Token) -> Self {
        Self { address, token: (!address.ip().is_loopback()).then(token) }
    }

    /// The whole address for a browser, if there is a secret in it.
    pub(super) fn secret_url(&self) -> Option<String> {
        self.token.as_ref().map(|Token(token)| format!("http://{}/{token}/", self.address))
    }

    /// Whether a browser means this machine by the name that it says.
    pub(super) fn is_meant(&self, headers: &HeaderMap) -> bool {
        is_meant(self.address, headers)
    }

    /// What is asked for, without the secret part; none if that is wrong.
    pub(super) fn admit<'a>(&self, path: &'a str) -> Option<&'a str> {
        let path = path.strip_prefix('/')?;
        let Some(Token(token)) = &self.token else { return Some(path) };
        let (said, path) = path.split_once('/')?;
        bool::from(said.as_bytes().ct_eq(token.as_bytes())).then_some(path)
    }
}

/// What browsers are told with every answer.
pub(super) fn headers() -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    HEADERS.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn guard(address: &str) -> Guard {
        Guard::new(address.parse().unwrap(), || Token("secret".to_owned()))
    }

    #[test]
    fn only_this_machine_comes_without_a_token() {
        for own in ["127.0.0.1:80", "[::1]:80", "127.9.9.9:80"] {
            assert_eq!(guard(own).admit("/status.json"), Some("status.json"));
            assert_eq!((guard(own).admit("/"), guard(own).secret_url()), (Some(""), None));
        }
        let open = guard("0.0.0.0:80");
        assert_eq!(open.secret_url().unwrap(), "http://0.0.0.0:80/secret/");
        assert_eq!((open.admit("/secret/"), open.admit("/secret/events")), (Some(""), Some("events")));
        for wrong in
            ["/", "/status.json", "/secret", "/secre/", "/secrets/", "/Secret/", "//secret/", ""]
        {
            assert_eq!(open.admit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn no_two_tokens_are_alike_and_none_is_short() {
        let (Token(one), Token(other)) = (Token::random(), Token::random());
        assert!(one != other && one.len() == 2 * TOKEN_BYTES, "{one} {other}");
    }

    #[test]
    fn nothing_may_come_from_elsewhere_and_nobody_else_may_read_it() {
        let told: HeaderMap = headers().collect();
        let policy = told["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"), "{policy}");
        assert!(!policy.contains("http") && !policy.contains('*'), "{policy}");
        assert!(told.keys().all(|name| !name.as_str().starts_with("access-control")), "no CORS");
    }
}
