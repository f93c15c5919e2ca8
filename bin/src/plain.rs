//! Words of others, such as causes and names that peers and relays chose, where people read them.

/// Without what steers a terminal (its cursor, its title, the clipboard) or reorders and hides letters. Lines stay lines.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|letter| if steers(letter) && letter != '\n' { ' ' } else { letter }).collect()
}

/// The same, and on one line: what others wrote cannot begin one of its own.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|letter| if steers(letter) { ' ' } else { letter }).collect()
}

/// Control characters; marks of direction, separators of lines and paragraphs, and letters without width.
fn steers(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_others_steer_no_terminal_and_reorder_nothing() {
        let said = "down: \u{1b}]52;c;cm0=\u{7}\u{202e}yhtlaeh\u{2028}x\n  next: \u{9b}2J\r";
        assert_eq!(plain(said), "down:  ]52;c;cm0=  yhtlaeh x\n  next:  2J ");
        assert_eq!(one_line(said).lines().count(), 1);
        assert_eq!(plain("kaspad läuft – 25 °C"), "kaspad läuft – 25 °C");
    }
}
