//! The modules of the page, joined. Owns which modules a browser loads as one file, and how they
//! become one. Must not know what a module does. The invariant: a joined module means what its
//! modules mean, with their order of evaluation, and their private names stay private.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The entry modules. The second is loaded when a button for something in it is pressed.
const ENTRIES: [&str; 2] = ["main.js", "extras.js"];

/// An entry module and all that it imports, as one module: one request instead of twenty, and a
/// quarter less to send. Each module becomes a function that is called once and returns what it
/// exports, in the order in which a browser would evaluate the modules; other names stay private.
/// A library for this would be larger than the server.
struct Joined<'a> {
    folder: &'a Path,
    entry: &'static str,
    /// What has been loaded before. Its modules are not repeated.
    loaded: Option<&'a Joined<'a>>,
    /// Names of the modules that are part of `code` or will be.
    modules: BTreeSet<String>,
    /// All exports share the outermost scope.
    exports: BTreeSet<String>,
    /// By the path of a module outside, the names that are imported from it.
    imports: BTreeMap<String, BTreeSet<String>>,
    code: String,
}

impl<'a> Joined<'a> {
    /// # Errors
    ///
    /// If a module uses a form of `import` or `export` that is not known here, or two modules
    /// export one name.
    fn new(
        folder: &'a Path,
        entry: &'static str,
        loaded: Option<&'a Joined<'a>>,
    ) -> io::Result<Joined<'a>> {
        let mut joined = Joined {
            folder,
            entry,
            loaded,
            modules: BTreeSet::new(),
            exports: BTreeSet::new(),
            imports: BTreeMap::new(),
            code: String::new(),
        };
        joined.add(entry)?;
        Ok(joined)
    }

    fn add(&mut self, module: &str) -> io::Result<()> {
        if !self.modules.insert(module.to_owned()) {
            return Ok(());
        }
        let source = fs::read_to_string(self.folder.join(module))?;
        let (mut body, mut exports) = (String::new(), Vec::new());
        for line in source.lines() {
            let unknown = || io::Error::other(format!("{module}: cannot join `{line}`"));
            if let Some(rest) =
                line.strip_prefix("import {").or_else(|| line.strip_prefix("export {"))
            {
                let (names, path) = rest.split_once("} from \"").ok_or_else(unknown)?;
                let path = path.strip_suffix("\";").ok_or_else(unknown)?;
                let outside = match (path.strip_prefix("./"), self.loaded) {
                    (None, _) => path.to_owned(),
                    (Some(name), Some(other)) if other.modules.contains(name) => {
                        format!("./{}", other.entry)
                    }
                    (Some(name), _) => {
                        self.add(name)?;
                        continue;
                    }
                };
                let names = names.split(',').map(|name| name.trim().to_owned());
                self.imports.entry(outside).or_default().extend(names);
            } else if let Some(declaration) = line.strip_prefix("export ") {
                let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
                let mut words = declaration.split(|c| !is_part(c));
                let name = match (words.next(), words.next()) {
                    (Some("const" | "class"), Some(name)) => name,
                    _ => return Err(unknown()),
                };
                if !self.exports.insert(name.to_owned()) {
                    return Err(io::Error::other(format!(
                        "{module}: another `{name}` is exported"
                    )));
                }
                exports.push(name);
                body.extend([declaration, "\n"]);
            } else if line.starts_with("import ") {
                return Err(unknown());
            } else if !line.starts_with("//") && !line.is_empty() {
                body.extend([line, "\n"]);
            }
        }
        if body.is_empty() {
            return Ok(());
        }
        let exports = exports.join(", ");
        let (start, end) = match exports.as_str() {
            "" => (String::new(), String::new()),
            _ => (format!("const {{ {exports} }} = "), format!("return {{ {exports} }};\n")),
        };
        self.code.push_str(&format!("{start}(() => {{\n{body}{end}}})();\n"));
        Ok(())
    }

    /// The module, which exports what `user` imports from it.
    fn text(&self, user: Option<&Joined<'_>>) -> String {
        let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
        let import = |(path, names)| format!("import {{ {} }} from \"{path}\";\n", list(names));
        let imports: String = self.imports.iter().map(import).collect();
        let exports = match user {
            Some(user) => user.imports.get(&format!("./{}", self.entry)),
            None => Some(&self.exports),
        };
        let exports = exports.map(list).unwrap_or_default();
        format!("{imports}{}export {{ {exports} }};\n", self.code)
    }
}

/// What a browser loads of the page's modules, by file name, and the files that this was made of.
pub struct PageScripts {
    pub scripts: [(&'static str, String); 2],
    pub sources: BTreeSet<PathBuf>,
}

/// Joins the modules in `folder`.
pub fn join(folder: &Path) -> io::Result<PageScripts> {
    let [main, extras] = ENTRIES;
    let main = Joined::new(folder, main, None)?;
    let extras = Joined::new(folder, extras, Some(&main))?;
    let scripts = [(main.entry, main.text(Some(&extras))), (extras.entry, extras.text(None))];
    let modules = main.modules.iter().chain(&extras.modules);
    Ok(PageScripts { scripts, sources: modules.map(|name| folder.join(name)).collect() })
}
