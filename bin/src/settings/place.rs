//! Where in a settings file a key stands.

use toml::de::{DeTable, DeValue};

/// The line of a key, from 1; `table` is its table's name as errors write it. None if it is not there.
pub(super) fn line_of(text: &str, table: Option<&str>, key: &str) -> Option<usize> {
    let root = DeTable::parse(text).ok()?;
    let root = root.get_ref();
    let table = match table {
        None => root,
        Some(name) => root.iter().find_map(|(key, value)| match value.get_ref() {
            DeValue::Table(own) if key.get_ref() == name => Some(own),
            DeValue::Array(all) => {
                let mut all = all.iter().enumerate();
                let (_, own) = all.find(|(at, _)| super::place(key.get_ref(), *at) == name)?;
                own.get_ref().as_table()
            }
            _ => None,
        })?,
    };
    let (found, _) = table.iter().find(|(found, _)| found.get_ref() == key)?;
    Some(text.get(..found.span().start)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_whichever_table_it_stands() {
        let text = "# ours\nlisten = 'a'\n\n[server]\nfrob = 1\n[[expose]]\nservice = 'a'\n[[expose]]\nserfice = 'b'\n";
        assert_eq!(line_of(text, None, "listen"), Some(2));
        assert_eq!(line_of(text, None, "server"), Some(4));
        assert_eq!(line_of(text, Some("server"), "frob"), Some(5));
        assert_eq!(line_of(text, Some("[[expose]] number 2"), "serfice"), Some(9));
        assert_eq!(line_of(text, Some("[[expose]] number 3"), "serfice"), None);
    }
}
