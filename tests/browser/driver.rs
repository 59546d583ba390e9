//! Browsers, each with a profile of its own.

use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::process::{Child, Command, Stdio};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};

/// A running `WebDriver` server, killed when dropped.
pub(crate) struct Driver {
    child: Child,
    port: u16,
}

impl Driver {
    pub(crate) fn start() -> Self {
        let mut child = Command::new("chromedriver")
            .args(["--port=0", "--log-level=SEVERE"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let port = lines.find_map(|line| {
            let port = line.split("started successfully on port ").nth(1)?;
            port.trim_end_matches('.').parse().ok()
        });
        // What it says besides must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, port: port.expect("chromedriver says which port it listens on") }
    }

    /// A browser that nobody has used before.
    pub(crate) async fn browser(&self, more: &[&str]) -> Browser {
        self.start_browser(more, None).await
    }

    /// The same with a phone's screen.
    pub(crate) async fn phone(&self) -> Browser {
        let screen = json!({ "width": 390, "height": 620, "pixelRatio": 2.0, "touch": true });
        self.start_browser(&["--hide-scrollbars"], Some(screen)).await
    }

    async fn start_browser(&self, more: &[&str], screen: Option<Value>) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let mut arguments: Vec<String> = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
        ]
        .map(String::from)
        .into();
        arguments.push(format!("--user-data-dir={}", profile.path().display()));
        arguments.extend(more.iter().copied().map(String::from));
        let mut options = json!({ "args": arguments });
        if let Some(screen) = screen {
            options["mobileEmulation"] = json!({ "deviceMetrics": screen });
        }
        let Value::Object(capabilities) = json!({
            "acceptInsecureCerts": true,
            "goog:chromeOptions": options,
        }) else {
            unreachable!("an object is an object")
        };
        let client = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", self.port))
            .await
            .unwrap();
        Browser { client, _profile: profile }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A browser with one profile.
pub(crate) struct Browser {
    client: Client,
    _profile: tempfile::TempDir,
}

impl Deref for Browser {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Browser {
    pub(crate) async fn sign_in(&self, page: &str, name: &str) {
        self.goto(page).await.unwrap();
        let field = self.find(Locator::Css("input[name=name]")).await.unwrap();
        field.send_keys(name).await.unwrap();
        self.click("button.primary").await;
        self.until_heading(&format!("Hello, {name}")).await;
    }

    pub(crate) async fn click(&self, css: &str) {
        self.find(Locator::Css(css)).await.unwrap().click().await.unwrap();
    }

    /// Waits until the page shows `heading`.
    pub(crate) async fn until_heading(&self, heading: &str) {
        let path = format!("//h1[normalize-space()='{heading}']");
        let shown = self.wait().for_element(Locator::XPath(&path)).await;
        if let Err(error) = shown {
            panic!("no heading {heading:?}: {error}\n{}", self.source().await.unwrap());
        }
    }

    pub(crate) async fn text(&self) -> String {
        self.find(Locator::Css("body")).await.unwrap().text().await.unwrap()
    }

    /// The beginnings of the IDs on the page: this device's first.
    pub(crate) async fn devices(&self) -> Vec<String> {
        let mut ids = Vec::new();
        for code in self.find_all(Locator::Css("li code")).await.unwrap() {
            ids.push(code.text().await.unwrap());
        }
        ids
    }

    pub(crate) async fn run(&self, script: &str) -> Value {
        self.execute(script, Vec::new()).await.unwrap()
    }

    pub(crate) async fn quit(self) {
        self.client.close().await.unwrap();
    }
}
