//! Tables in the documentation that are made from results: compared with what came out, or written.

use std::path::Path;
use std::{env, fs};

/// Compares a table on `docs/threats.md`, which begins with these words, with this one, its last line's end included. With
/// `BLINDFERRY_WRITE_TABLE` in the environment it is written.
///
/// # Panics
/// When the page says something else, or has no such table.
pub fn agrees(begins: &str, table: &str) {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/threats.md");
    let text = fs::read_to_string(&page).unwrap();
    let start = text.find(begins).unwrap();
    let end = start + text[start..].find("\n\n").unwrap() + 1;
    if env::var_os("BLINDFERRY_WRITE_TABLE").is_some() {
        fs::write(&page, [&text[..start], table, &text[end..]].concat()).unwrap();
        return;
    }
    assert_eq!(&text[start..end], table, "docs/threats.md says something else: BLINDFERRY_WRITE_TABLE=1 writes it");
}
