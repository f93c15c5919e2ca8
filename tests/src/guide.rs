//! Reads a guide that people follow, so that a test can follow it word by word: what is typed where, what is replaced
//! first, and what is printed then.
//!
//! `` On `first`: `` says where the next block is typed; `<…>` in a block is what a reader replaces; and after it,
//! `` It prints: `…` `` is a line that comes, in which a `<…>` that is not known yet is found.

use std::collections::BTreeMap;
use std::str::FromStr;

pub use reader::{BLOCK_DEADLINE, Reader};

mod reader;

/// The blocks of a guide, in their order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Guide {
    /// What is typed.
    pub blocks: Vec<Block>,
}

/// Something to type.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// Where it begins in the file, counted from 1.
    pub line: usize,
    /// Where it is typed.
    pub machine: String,
    /// What is typed.
    pub script: String,
    /// The line that it prints; without one it is waited for.
    pub prints: Option<String>,
}

/// What a reader knows to put in the place of `<…>`, by what stands between the brackets.
pub type Values = BTreeMap<String, String>;

/// The guide leaves its reader with a question.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum GuideError {
    /// No line says where the block is typed.
    #[error("line {line}: on which machine is this typed?")]
    Where {
        /// Where the block begins.
        line: usize,
    },
    /// Something printed that belongs to no block.
    #[error("line {line}: what prints this?")]
    What {
        /// Where it stands.
        line: usize,
    },
    /// Nobody said what this is.
    #[error("what is <{0}>?")]
    Unknown(String),
}

impl FromStr for Guide {
    type Err = GuideError;

    fn from_str(text: &str) -> Result<Self, GuideError> {
        let (mut blocks, mut machine) = (Vec::<Block>::new(), None);
        let mut lines = text.lines().zip(1..);
        while let Some((text, line)) = lines.next() {
            if let Some(named) = between(text, "On `", "`:") {
                machine = Some(named.to_owned());
            } else if text.starts_with("```") {
                let script: Vec<_> =
                    lines.by_ref().map(|(text, _)| text).take_while(|text| *text != "```").collect();
                let machine = machine.take().ok_or(GuideError::Where { line })?;
                blocks.push(Block { line, machine, script: script.join("\n"), prints: None });
            } else if let Some(printed) = between(text, "It prints: `", "`") {
                let block = blocks.last_mut().filter(|block| block.prints.is_none());
                block.ok_or(GuideError::What { line })?.prints = Some(printed.to_owned());
            }
        }
        Ok(Self { blocks })
    }
}

impl Block {
    /// What is typed, when everything is replaced.
    ///
    /// # Errors
    ///
    /// If nobody said by what.
    pub fn script(&self, values: &Values) -> Result<String, GuideError> {
        replaced(&self.script, values)
    }
}

/// The value of every `<…>` in `pattern`, if it stands in `line` with what is known replaced. What is not known is all between
/// what stands beside it in the pattern, and at the end of the pattern all to the end of the line.
pub fn find(pattern: &str, line: &str, values: &Values) -> Option<Values> {
    let Some((before, rest)) = pattern.split_once('<') else {
        return line.contains(pattern).then(|| values.clone());
    };
    let (name, rest) = rest.split_once('>')?;
    let mut values = values.clone();
    let value = match values.get(name) {
        Some(value) => value.clone(),
        None => {
            let (_, after) = line.split_once(before)?;
            let literal = rest.split('<').next().unwrap_or_default();
            let found = if literal.is_empty() { after } else { after.split_once(literal)?.0 };
            found.trim().to_owned()
        }
    };
    let is_found = !value.is_empty();
    let replaced = format!("{before}{value}{rest}");
    values.insert(name.to_owned(), value);
    is_found.then(|| find(&replaced, line, &values))?
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(after)
}

fn replaced(text: &str, values: &Values) -> Result<String, GuideError> {
    let Some((before, rest)) = text.split_once('<') else { return Ok(text.to_owned()) };
    let Some((name, rest)) = rest.split_once('>') else { return Ok(text.to_owned()) };
    let value = values.get(name).ok_or_else(|| GuideError::Unknown(name.to_owned()))?;
    Ok(format!("{before}{value}{}", replaced(rest, values)?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn values<const N: usize>(pairs: [(&str, &str); N]) -> Values {
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    #[test]
    fn a_block_is_typed_where_the_line_before_says_with_everything_replaced() {
        let text =
            "# A\nOn `here`:\n\n```sh\nsay <what> to <whom's>\n  twice\n```\n\nIt prints: `ok <id>`\n";
        let guide: Guide = text.parse().unwrap();
        let [block] = &guide.blocks[..] else { panic!("{guide:?}") };
        assert_eq!((block.line, block.machine.as_str()), (4, "here"));
        assert_eq!(block.prints.as_deref(), Some("ok <id>"));
        let known = values([("what", "this"), ("whom's", "you")]);
        assert_eq!(block.script(&known).unwrap(), "say this to you\n  twice");
        let question = block.script(&values([("what", "this")])).unwrap_err();
        assert_eq!(question, GuideError::Unknown("whom's".to_owned()));
    }

    #[test]
    fn what_is_typed_nowhere_or_printed_by_nothing_is_an_error_with_its_line() {
        assert_eq!("a\n```sh\nb\n```".parse::<Guide>(), Err(GuideError::Where { line: 2 }));
        let twice = "On `a`:\n```sh\nb\n```\n```sh\nc\n```";
        assert_eq!(twice.parse::<Guide>(), Err(GuideError::Where { line: 5 }));
        assert_eq!("It prints: `x`".parse::<Guide>(), Err(GuideError::What { line: 1 }));
    }

    #[test]
    fn what_a_line_tells_is_found_in_it() {
        let none = Values::new();
        let found = |pattern, line, known: &Values| find(pattern, line, known);
        assert_eq!(
            found("peers use: <relay>", "  peers use: --relay /a --relay /b ", &none),
            Some(values([("relay", "--relay /a --relay /b")]))
        );
        assert_eq!(found("<id>", "12D3", &none), Some(values([("id", "12D3")])));
        let known = values([("n", "7")]);
        assert_eq!(found("x <n> --peer <id> y", "x 7 --peer a y", &known).unwrap()["id"], "a");
        assert_eq!(found("<command> --to y", "do this --to y", &none).unwrap()["command"], "do this");
        for line in ["x 8 --peer a y", "x 7 --peer  y", "x 7 --peer a", "", "--peer a y"] {
            assert_eq!(found("x <n> --peer <id> y", line, &known), None, "{line}");
        }
        assert_eq!(found("direct", "it is direct", &none), Some(none.clone()));
    }
}
