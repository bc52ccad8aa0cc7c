//! The source tree as text: files, what of them is test code, and lines without
//! comments and strings.

use std::fs;
use std::path::{Path, PathBuf};

/// The root of the workspace.
pub(super) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of a file of the workspace.
#[track_caller]
pub(super) fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files below a directory, relative to the root, in order. Empty if there is
/// no such directory.
pub(super) fn files_below(directory: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![root().join(directory)];
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries {
            let path: PathBuf = entry.expect("a directory entry").path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let path = path.strip_prefix(root()).expect("below the root");
                found.push(path.to_str().expect("names in UTF-8").to_owned());
            }
        }
    }
    found.sort();
    found
}

/// A file of program code.
pub(super) struct Source {
    /// Relative to the root, `src/smtp/data.rs`.
    pub(super) path: String,
    /// Its lines up to the first test module, numbered from 1.
    pub(super) lines: Vec<(usize, String)>,
}

impl Source {
    /// Lines with comments and the insides of strings blanked out.
    pub(super) fn code(&self) -> Vec<(usize, String)> {
        let mut in_string = false;
        self.lines
            .iter()
            .map(|(number, line)| (*number, blanked(line, &mut in_string)))
            .collect()
    }
}

/// One line without comment and strings. `in_string` is carried from line to line.
/// Raw strings with quotation marks inside and block comments are not known: the
/// tree has neither in program code, and a test below would misread them loudly.
fn blanked(line: &str, in_string: &mut bool) -> String {
    let mut out = String::with_capacity(line.len());
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        if *in_string {
            match c {
                '\\' => {
                    chars.next();
                }
                '"' => *in_string = false,
                _ => {}
            }
            out.push(' ');
            continue;
        }
        match c {
            '/' if chars.peek() == Some(&'/') => break,
            '"' => {
                *in_string = true;
                out.push(' ');
            }
            '\'' => {
                // A character, or a lifetime.
                let rest: Vec<char> = chars.clone().take(3).collect();
                let width = match rest.as_slice() {
                    ['\\', ..] => chars
                        .clone()
                        .skip(1)
                        .position(|c| c == '\'')
                        .map(|at| at + 2),
                    [_, '\'', ..] => Some(2),
                    _ => None,
                };
                for _ in 0..width.unwrap_or(0) {
                    chars.next();
                }
                out.push(' ');
            }
            c => out.push(c),
        }
    }
    out
}

/// Program code below `directory`: no test modules, neither at the end of a file
/// nor in a file of their own.
pub(super) fn program(directory: &str) -> Vec<Source> {
    let files: Vec<String> = files_below(directory)
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .collect();
    let mut test_files = Vec::new();
    let mut sources = Vec::new();
    for path in &files {
        let text = text(path);
        let lines: Vec<&str> = text.lines().collect();
        let mut end = lines.len();
        for (i, line) in lines.iter().enumerate() {
            if !is_test_only(line) {
                continue;
            }
            let Some(next) = lines.get(i + 1) else {
                continue;
            };
            if let Some(name) = declared_module(next) {
                test_files.push(module_stem(path, name));
            } else if next.contains("mod ") && next.ends_with('{') {
                // By habit the test module is the last thing of a file.
                end = end.min(i);
            }
        }
        let lines = lines[..end].iter().enumerate();
        sources.push(Source {
            path: path.clone(),
            lines: lines.map(|(i, line)| (i + 1, (*line).to_owned())).collect(),
        });
    }
    sources.retain(|source| {
        let stem = source.path.trim_end_matches(".rs");
        !test_files.iter().any(|test| {
            stem == test
                || stem
                    .strip_prefix(test.as_str())
                    .is_some_and(|rest| rest.starts_with('/'))
        })
    });
    sources
}

/// `#[cfg(test)]`, and `#[cfg(all(test, …))]`.
fn is_test_only(line: &str) -> bool {
    let line = line.trim();
    line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test")
}

/// The name in `mod name;`.
fn declared_module(line: &str) -> Option<&str> {
    let (_, name) = line.trim().split_once("mod ")?;
    name.strip_suffix(';')
}

/// Where the module `name` declared in `path` lies, without `.rs`.
fn module_stem(path: &str, name: &str) -> String {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    match file {
        "mod.rs" | "lib.rs" | "main.rs" => format!("{directory}/{name}"),
        _ => format!("{directory}/{}/{name}", file.trim_end_matches(".rs")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_blanked() {
        let check = |line: &str, expected: &str| {
            let got = blanked(line, &mut false);
            let words: Vec<&str> = got.split_whitespace().collect();
            assert_eq!(words.join(" "), expected, "{line}");
        };
        check("use a::b; // unsafe", "use a::b;");
        check("let x = \"unsafe // {\"; y", "let x = ; y");
        check(r#"let x = "a\"unsafe"; y"#, "let x = ; y");
        check("fn f<'a>(x: &'a str) {}", "fn f< a>(x: & a str) {}");
        check(
            "matches!(c, '\"' | '\\'' | '\\u{202a}') x",
            "matches!(c, | | ) x",
        );
    }

    #[test]
    fn modules_lie_where_rust_looks_for_them() {
        assert_eq!(module_stem("src/a/mod.rs", "t"), "src/a/t");
        assert_eq!(module_stem("src/a.rs", "t"), "src/a/t");
        assert_eq!(module_stem("src/lib.rs", "t"), "src/t");
    }

    #[test]
    fn test_code_is_left_out() {
        let config = program("src/config");
        assert!(
            config
                .iter()
                .any(|source| source.path == "src/config/mod.rs")
        );
        assert!(
            !config
                .iter()
                .any(|source| source.path == "src/config/tests.rs")
        );
        let units = config
            .iter()
            .find(|source| source.path == "src/config/units.rs");
        let lines = &units.expect("units.rs").lines;
        assert!(!lines.iter().any(|(_, line)| line.contains("#[test]")));
    }
}
