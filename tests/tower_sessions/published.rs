//! What the peers publish themselves, on a session file: the tests of tower-sessions, and the
//! program in the documentation of axum-login.
//!
//! Neither is a copy in this repository. Both are taken from the crates' sources, which cargo
//! keeps, and built in a package of their own in the target directory; in the same versions, since
//! it has the same lock file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::common;
use super::login::{Server, tool};

/// The package, made once for all tests.
static PACKAGE: LazyLock<PathBuf> = LazyLock::new(generate);

/// What takes the place of their store.
const LIBRARY: &str = r#"
use std::sync::atomic::{AtomicUsize, Ordering};
use fastsession::{RedbStore, tower_sessions::Store};

/// A store on a file that nothing else uses.
pub fn store() -> Store<RedbStore> {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("{}-{}.redb", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = std::path::PathBuf::from(std::env::var_os("FOLDER").unwrap());
    Store::new(RedbStore::open(folder.join(name)).unwrap())
}
"#;

fn generate() -> PathBuf {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("published");
    let _ = fs::remove_dir_all(&package);
    for folder in ["src", "tests/common"] {
        fs::create_dir_all(package.join(folder)).unwrap();
    }
    let ours = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = |path: &str, text: &str| fs::write(package.join(path), text).unwrap();
    write("Cargo.toml", &manifest(ours));
    write("src/lib.rs", LIBRARY);
    fs::copy(ours.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();

    let sources = Sources::of(&package);
    let tests = sources.folder("tower-sessions").join("tests");
    let routes = read(&tests.join("integration-tests.rs"));
    write(
        "tests/routes.rs",
        &allowed(&swap(&routes, "MemoryStore::default()", "published::store()")),
    );
    write("tests/common/mod.rs", &read(&tests.join("common/mod.rs")));

    let memory = read(&sources.folder("tower-sessions-memory-store").join("src/lib.rs"));
    let (_, memory) = memory.split_once("#[cfg(test)]\n").expect("it has tests");
    let memory = memory.replace("MemoryStore::default()", "published::store()");
    let around =
        "use time::OffsetDateTime;\nuse tower_sessions::{SessionStore, session::Record};\n";
    write("tests/store.rs", &allowed(&format!("{around}{memory}")));

    let docs = read(&sources.folder("axum-login").join("src/lib.rs"));
    write("src/main.rs", &allowed(&program(&docs)));
    package
}

/// With our own dependencies and profiles, so that what was built for this test is used again.
fn manifest(ours: &Path) -> String {
    let own = read(&ours.join("Cargo.toml"));
    let section = |from: &str, to: &str| {
        let rest = &own[own.find(from).unwrap()..];
        rest[..rest.find(to).unwrap_or(rest.len())].to_owned()
    };
    let dependencies = section("[dev-dependencies]\n", "\n[package.metadata")
        .replace("[dev-dependencies]", "[dependencies]");
    let profiles = section("[profile.release]", "\0");
    format!(
        "[package]\nname = \"published\"\nedition = \"2024\"\n\n[workspace]\n\n\
         # What their tests ask for.\n[features]\ndefault = [\"axum-core\", \"memory-store\"]\n\
         axum-core = []\nmemory-store = []\n\n{dependencies}\n\
         http = \"1\"\naxum-core = \"0.5\"\n\
         serde = {{ version = \"1\", features = [\"derive\"] }}\n\
         tower-cookies = \"0.11\"\nfastsession = {{ path = '{}', features = {:?} }}\n\n\
         {profiles}",
        ours.display(),
        common::features()
    )
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `text` with the only `old` in it exchanged.
fn swap(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "{old:?} is not there once:\n{text}");
    text.replace(old, new)
}

/// Their warnings are not ours.
fn allowed(text: &str) -> String {
    format!("#![allow(warnings)]\n{text}")
}

fn cargo(package: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).arg("--manifest-path").arg(package.join("Cargo.toml"));
    // …/target/tmp
    command.env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap());
    command
}

/// Where cargo keeps the sources of what the package depends on.
struct Sources(Value);

impl Sources {
    fn of(package: &Path) -> Self {
        // Without this, cargo fetches what other platforms need.
        let rustc = Command::new("rustc").arg("-vV").output().unwrap();
        let rustc = String::from_utf8(rustc.stdout).unwrap();
        let host = rustc.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
        let arguments = ["metadata", "--format-version=1", "--filter-platform", host];
        let output = cargo(package, &arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(serde_json::from_slice(&output.stdout).unwrap())
    }

    fn folder(&self, name: &str) -> PathBuf {
        let packages = self.0["packages"].as_array().unwrap();
        let found = packages.iter().find(|package| package["name"] == name).expect(name);
        Path::new(found["manifest_path"].as_str().unwrap()).parent().unwrap().into()
    }
}

/// The program in the documentation of axum-login, on a session file.
///
/// It is the block that sets everything up, with the handler for the login from the block that
/// writes that. The line of the store is exchanged. What its authors left for the reader to do
/// is done: it has a user, `Credentials` can be read from a form, and the three `todo!()` are
/// handlers: theirs where the documentation has one. It listens where this test says, and has a
/// route to sign out, which the documentation tells of without showing it.
fn program(documentation: &str) -> String {
    let blocks = code_blocks(documentation);
    let find = |mark: &str| {
        blocks.iter().find(|block| block.iter().any(|line| line.contains(mark))).expect(mark)
    };
    let login = visible(find("async fn login(")).join("\n");
    let protected = visible(find("fn protected_routes()"));
    let protected = protected.iter().find(|line| line.trim().starts_with("get(")).unwrap();
    let setup = find("AuthManagerLayerBuilder::new(");
    let setup: Vec<_> =
        setup.iter().map(|line| shown(line).unwrap_or_else(|hidden| hidden)).collect();
    [
        (
            "MemoryStore::default()",
            "fastsession::tower_sessions::Store::for_axum_login(\
             fastsession::RedbStore::open(std::env::args().nth(2).unwrap())?)",
        ),
        ("Backend::default()", "Backend { users: [(7, User { id: 7, pw_hash: vec![1] })].into() }"),
        ("struct Credentials", "#[derive(serde::Deserialize)]\nstruct Credentials"),
        (
            "\"/protected\", get(todo!())",
            &format!("\"/protected\", {}", protected.trim().trim_end_matches(',')),
        ),
        ("post(todo!())", "post(login)"),
        (
            "\"/login\", get(todo!())",
            "\"/login\", get(async || \"Who are you?\"))\n.route(\"/logout\", post(\
             async |mut auth: AuthSession| auth.logout().await.map(drop).map_err(|_| ())\
             .map_err(|()| StatusCode::INTERNAL_SERVER_ERROR))",
        ),
        ("\"0.0.0.0:3000\"", "std::env::args().nth(1).unwrap()"),
    ]
    .iter()
    .fold(format!("{}\n{login}\n", setup.join("\n")), |text, (old, new)| swap(&text, old, new))
}

fn visible<'a>(block: &[&'a str]) -> Vec<&'a str> {
    block.iter().filter_map(|line| shown(line).ok()).collect()
}

/// A line of a code block; of a hidden one, what is hidden.
fn shown(line: &str) -> Result<&str, &str> {
    line.strip_prefix("# ").or_else(|| (line == "#").then_some("")).map_or(Ok(line), Err)
}

/// The Rust in the documentation of a crate, its hidden lines too.
fn code_blocks(source: &str) -> Vec<Vec<&str>> {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let mut blocks = Vec::new();
    let mut inside = false;
    for line in lines.map(|line| line.strip_prefix(' ').unwrap_or(line)) {
        match (line.starts_with("```"), inside) {
            (true, true) => inside = false,
            (true, false) => {
                inside = true;
                blocks.push(Vec::new());
            }
            (false, true) => blocks.last_mut().expect("pushed above").push(line),
            (false, false) => {}
        }
    }
    blocks
}

/// Whoever moves finds each of their methods on the page.
#[test]
fn the_page_for_moving_has_every_method_of_theirs() {
    let sources = Sources::of(&PACKAGE);
    let page = include_str!("../../docs/tower-sessions.md");
    let mut known = 0;
    for (package, file, of) in [
        ("tower-sessions-core", "session.rs", "impl Session {"),
        ("tower-sessions", "service.rs", "SessionManagerLayer<Store, C> {"),
        ("axum-login", "session.rs", "AuthSession<Backend> {"),
        ("axum-login", "service.rs", "AuthManagerLayerBuilder<Backend, Sessions, C>"),
    ] {
        let source = read(&sources.folder(package).join("src").join(file));
        let (_, methods) = source.split_once(of).expect(of);
        let methods = &methods[..methods.find("\n}").unwrap()];
        for name in methods.lines().filter_map(method) {
            let calls = [
                format!(".{name}("),
                format!(".{name}::<"),
                format!("::{name}("),
                format!("`{name}`"),
            ];
            assert!(calls.iter().any(|call| page.contains(call)), "{package}: {name}");
            known += 1;
        }
    }
    assert!(known > 25, "{known}");
}

fn method(line: &str) -> Option<&str> {
    let rest = line.trim().strip_prefix("pub ")?;
    let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
    rest.split(['(', '<']).next()
}

/// All but one: it saves a session that was never created, and expects that to succeed. Here it
/// is an error, which is what keeps a late save from reviving a session that was ended.
#[test]
fn their_own_tests_pass_on_a_session_file_but_for_the_save_of_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut test = cargo(&PACKAGE, &["test", "--tests", "--no-fail-fast"]);
    let output = test.env("FOLDER", folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let outcomes: Vec<_> =
        said.lines().filter_map(|line| line.strip_prefix("test ")?.split_once(" ... ")).collect();
    let passed = outcomes.iter().filter(|(_, outcome)| *outcome == "ok").count();
    let failed: Vec<_> =
        outcomes.iter().filter(|(_, outcome)| *outcome != "ok").map(|(name, _)| *name).collect();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(failed, ["tests::test_save"], "{said}{stderr}");
    assert_eq!(passed, 17, "13 of routes and 4 of stores:\n{said}{stderr}");
}

#[tokio::test]
async fn axum_logins_own_program_runs_on_a_session_file_and_the_tool_sees_its_sessions() {
    let built = cargo(&PACKAGE, &["build", "--bins"]).output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");
    let server = serve(&file);

    let refused = server.ask("/protected", None, None).await;
    assert_eq!(refused.location.as_deref(), Some("/login?next=%2Fprotected"));
    let wrong = server.ask("/login", Some("user_id=8"), None).await;
    assert_eq!((wrong.status.as_u16(), wrong.cookie), (401, None));

    let first = server.ask("/login", Some("user_id=7"), None).await;
    assert_eq!(first.location.as_deref(), Some("/protected"));
    let (first, second) = (
        first.cookie.unwrap(),
        server.ask("/login", Some("user_id=7"), None).await.cookie.unwrap(),
    );
    for cookie in [&first, &second] {
        assert!(server.ask("/protected", None, Some(cookie)).await.status.is_success());
    }
    let listed =
        || tool(&file, &["list", "--user", "7", "--realm", "tower-sessions", "--format", "ids"]);
    assert_eq!(listed().lines().count(), 2);

    assert!(server.ask("/logout", Some(""), Some(&first)).await.status.is_success());
    assert!(server.ask("/protected", None, Some(&first)).await.status.is_redirection());
    let left = listed();
    assert_eq!(left.lines().count(), 1);

    assert!(server.ask("/protected", None, Some(&second)).await.status.is_success());
    tool(&file, &["expire", left.trim()]);
    // The lease of the server's snapshot has to end.
    let ended =
        async || server.ask("/protected", None, Some(&second)).await.status.is_redirection();
    let since = Instant::now();
    while !ended().await {
        assert!(since.elapsed() < Duration::from_secs(30), "ended by the tool");
    }
}

/// Starts their program, which has an address of its own and says nothing.
fn serve(file: &Path) -> Server {
    // Free now; nothing else here asks for one by its number.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("debug/published");
    let child = Command::new(program).arg(free.to_string()).arg(file).spawn().unwrap();
    let server = Server { child, address: format!("http://{free}") };
    let since = Instant::now();
    while std::net::TcpStream::connect(free).is_err() {
        assert!(since.elapsed() < Duration::from_secs(30), "it does not serve");
        std::thread::yield_now();
    }
    server
}
