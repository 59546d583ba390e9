//! The default cookie, `__Host-sid`, over TLS with a certificate made for the test.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use fantoccini::cookies::Cookie;

use crate::common::Server;
use crate::driver::Driver;
use crate::installed;

/// A proxy that speaks TLS before a server, killed when dropped.
struct Proxy {
    child: Child,
    port: u16,
}

impl Proxy {
    fn start(folder: &Path, server: &str) -> Self {
        let (key, certificate) = (folder.join("key.pem"), folder.join("certificate.pem"));
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate)
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let listen = format!(
            "OPENSSL-LISTEN:0,bind=127.0.0.1,fork,reuseaddr,verify=0,cert={},key={}",
            certificate.display(),
            key.display()
        );
        let mut child = Command::new("socat")
            .args(["-d", "-d", &listen, &format!("TCP:{server}")])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let port = lines.find_map(|line| {
            line.split("listening on ").nth(1)?.rsplit(':').next()?.trim().parse().ok()
        });
        // It writes a line for each connection, and must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.expect("socat says which port it listens on") }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn security_04_the_default_cookie_is_kept_by_a_browser_over_tls() {
    if !installed(&["chromium", "chromedriver", "openssl", "socat"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sessions.redb");
    let server = Server::start_with("login", &file, &["behind-tls"]);
    let proxy = Proxy::start(folder.path(), &server.address);
    let page = format!("https://localhost:{}/", proxy.port);
    let driver = Driver::start();
    let browser = driver.browser(&[]).await;
    browser.sign_in(&page, "alice").await;

    let cookies = browser.get_all_cookies().await.unwrap();
    let [cookie] = &cookies[..] else { panic!("{cookies:?}") };
    assert_eq!(cookie.name(), "__Host-sid");
    assert_eq!(cookie.secure(), Some(true));
    assert_eq!(cookie.http_only(), Some(true));
    assert_eq!(cookie.same_site().map(|site| site.to_string()), Some("Lax".into()));
    assert_eq!(cookie.path(), Some("/"));
    assert_eq!(cookie.domain(), Some("localhost"), "a host, without the dot of a domain");
    assert!(cookie.expires().is_none(), "gone with the browser");
    assert_eq!(browser.run("return document.cookie").await, "");

    // Renewed by the login of somebody else: never two cookies.
    browser.click("#logout").await;
    browser.until_heading("Sign in").await;
    assert!(browser.get_all_cookies().await.unwrap().is_empty(), "the cookie is deleted");
    browser.sign_in(&page, "bob").await;
    let new: Vec<Cookie<'_>> = browser.get_all_cookies().await.unwrap();
    assert_eq!(new.len(), 1);
    assert_ne!(new[0].value(), cookie.value());

    // A copy of the other's cookie is worth nothing any more.
    let mut thief = server.client();
    thief.cookie = Some(format!("{}={}", new[0].name(), new[0].value()));
    assert!(thief.get("/").unwrap().body.contains("Hello, bob"));
    thief.cookie = Some(format!("{}={}", cookie.name(), cookie.value()));
    assert!(!thief.get("/").unwrap().body.contains("Hello"));
    browser.quit().await;
}
