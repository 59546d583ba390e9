//! `rediss://`: a server with a certificate of the test's own making.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::common::{self, Server, tool};
use crate::server::{self, Node};

/// An authority, and a certificate for the loopback that it has signed.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn make() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let openssl = |arguments: &[&str]| {
            let output =
                Command::new("openssl").args(arguments).current_dir(made.0.path()).output();
            let output = output.unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
        let files = ["-keyout", "ca.key", "-out", "ca.pem"];
        openssl(&[&authority[..], &key, &files].concat());
        let request = ["req", "-subj", "/CN=test server", "-keyout", "key.pem", "-out", "csr.pem"];
        openssl(&[&request[..], &key].concat());
        std::fs::write(made.path("names"), "subjectAltName=IP:127.0.0.1\n").unwrap();
        let sign = ["x509", "-req", "-days", "2", "-in", "csr.pem", "-extfile", "names"];
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out", "cert.pem"];
        openssl(&[&sign[..], &by].concat());
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

fn list(url: &str, authority: &Path) -> Output {
    let arguments = ["list", "--db", url, "--json"];
    tool().args(arguments).env("SSL_CERT_FILE", authority).output().unwrap()
}

#[test]
fn tls_and_the_password_of_a_user_come_from_the_url() {
    if !server::is_installed() {
        return;
    }
    common::build_example("counter_redis");
    let (certificates, others) = (Certificates::make(), Certificates::make());
    let port = server::free_port();
    let file = |name: &str| certificates.path(name).to_str().unwrap().to_owned();
    let node = Node::start(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("cert.pem"),
        "--tls-key-file",
        &file("key.pem"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
        "--tls-auth-clients",
        "no",
        "--appendonly",
        "yes",
    ]);
    // What the README says that a user needs.
    let rules = ["~{shop*", "&{shop*", "+@read", "+@write", "+@scripting", "+@pubsub"];
    let more = ["+@connection", "+info", "+cluster|slots"];
    node.cli(&[&["ACL", "SETUSER", "app", "on", ">battery-staple"], &rules[..], &more].concat());
    let url = format!("rediss://app:battery-staple@127.0.0.1:{port}/?prefix=shop");
    let authority = certificates.path("ca.pem");

    let counter =
        Server::start_under("counter_redis", &url, &[("SSL_CERT_FILE", authority.as_os_str())]);
    let mut client = counter.client();
    assert_eq!(client.get("/session_test").unwrap().count(), 1);
    assert_eq!(client.get("/session_test").unwrap().count(), 2);
    let output = list(&url, &authority);
    assert!(output.status.success(), "{output:?}");
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    for arguments in [&["expire", "--all", "--yes"][..], &["purge"], &["key", "rotate"]] {
        let mut command = tool();
        command.args(arguments).args(["--db", &url]).env("SSL_CERT_FILE", &authority);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
    assert_eq!(client.get("/session_test").unwrap().count(), 1);

    for (url, authority, says) in [
        (url.clone(), others.path("ca.pem"), "certificate"),
        // The name in the URL is not that of the certificate.
        (url.replace("127.0.0.1", "localhost"), authority.clone(), "certificate"),
        (url.replace("battery", "horse"), authority.clone(), "refuses user and password"),
        (url.replace("app:", "nobody:"), authority.clone(), "refuses user and password"),
        // Without TLS on the port for it, and the other way round.
        (url.replace("rediss:", "redis:"), authority.clone(), "cannot be"),
        (url.replace(&port.to_string(), &node.port.to_string()), authority, "cannot be"),
    ] {
        let output = list(&url, &authority);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(says) && !text.contains("staple"), "{text}");
        assert!(!text.contains("panicked"), "{text}");
    }
}
