//! Is the house itself in order: who may depend on whom, where `unsafe` is, what documents and lints promise?

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

#[test]
fn the_house_has_its_papers() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    for paper in ["docs/architecture.md", "docs/threats.md", "clippy.toml", "deny.toml"] {
        assert!(root.join(paper).is_file(), "{paper}");
    }
}
