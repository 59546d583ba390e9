//! Every requirement has a row in `SECURITY.md`, and every test named there is in the file it
//! names.

use std::path::Path;

#[test]
fn every_requirement_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(root.join("SECURITY.md")).unwrap();
    let mut next = 1;
    for line in document.lines() {
        let cells: Vec<_> = line.split(" | ").collect();
        let [number, _, tests] = cells[..] else { continue };
        let Ok(number) = number.trim_start_matches("| ").parse::<u32>() else { continue };
        assert_eq!(number, next, "rows in order, none missing");
        next += 1;
        for part in tests.trim_end_matches(" |").split("; ") {
            let (file, names) = part.split_once(": ").unwrap();
            let source = std::fs::read_to_string(root.join(file))
                .unwrap_or_else(|error| panic!("{number}: {file}: {error}"));
            for name in names.split(", ") {
                let name = name.trim_matches('`');
                assert!(source.contains(&format!("fn {name}(")), "{number}: no {name} in {file}");
            }
        }
    }
    assert_eq!(next, 34, "requirements 1 to 33");
}
