//! Reads a sentence of the runbook from left to right.

use std::str::FromStr;

/// The sentence is not one of those that are understood.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{found}` where {wanted} belongs")]
pub struct Unclear {
    /// The rest of the sentence.
    pub found: String,
    /// What would be understood.
    pub wanted: String,
}

/// The rest of a sentence.
#[derive(Debug)]
pub(super) struct Cursor<'a>(&'a str);

impl<'a> Cursor<'a> {
    pub(super) fn new(sentence: &'a str) -> Self {
        Self(sentence)
    }

    /// Reads all of the sentence, and says in words what is wrong with it.
    pub(super) fn whole<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, Unclear>,
    ) -> Result<T, String> {
        let read = read(&mut self).map_err(|unclear| unclear.to_string())?;
        match self.0 {
            "" => Ok(read),
            _ => Err(self.unclear("the end").to_string()),
        }
    }

    /// Whether it goes on with `words`, which are then passed.
    pub(super) fn skip(&mut self, words: &str) -> bool {
        let rest = self.0.strip_prefix(words);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    pub(super) fn expect(&mut self, words: &str) -> Result<(), Unclear> {
        if self.skip(words) { Ok(()) } else { Err(self.unclear(&format!("`{words}`"))) }
    }

    /// What stands before `words`, which are passed too.
    pub(super) fn until(&mut self, words: &str) -> Result<&'a str, Unclear> {
        let (before, rest) =
            self.0.split_once(words).ok_or_else(|| self.unclear(&format!("… `{words}`")))?;
        self.0 = rest;
        Ok(before)
    }

    pub(super) fn number(&mut self) -> Result<u64, Unclear> {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        let number = digits.parse().map_err(|_| self.unclear("a number"))?;
        self.0 = rest;
        Ok(number)
    }

    /// What stands in backticks.
    pub(super) fn name(&mut self) -> Result<String, Unclear> {
        if !self.0.starts_with('`') {
            return Err(self.unclear("something in backticks"));
        }
        self.skip("`");
        self.until("`").map(str::to_owned)
    }

    /// Names in backticks, with commas between them.
    pub(super) fn names<T: FromStr<Err = Unclear>>(&mut self) -> Result<Vec<T>, Unclear> {
        let mut names = vec![self.name()?.parse()?];
        while self.skip(", ") {
            names.push(self.name()?.parse()?);
        }
        Ok(names)
    }

    pub(super) fn unclear(&self, wanted: &str) -> Unclear {
        Unclear { found: self.0.to_owned(), wanted: wanted.to_owned() }
    }
}
