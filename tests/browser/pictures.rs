//! The pictures of the README, and that the pages fit the screens they are made for.

use std::path::PathBuf;

use crate::common::Server;
use crate::driver::{Browser, Driver};
use crate::{CHROMIUM, installed};

/// How wide the page is, and how wide the screen.
const WIDTHS: &str = "return [document.documentElement.scrollWidth, window.innerWidth]";

#[tokio::test]
async fn the_pages_fit_a_phone_and_a_desk_in_light_and_dark() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start("login", &folder.path().join("sessions.redb"));
    let page = format!("http://{}/", server.address);
    let driver = Driver::start();
    let phone_agent = "--user-agent=Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) Safari";
    let other = driver.browser(&[phone_agent]).await;
    other.sign_in(&page, "alice").await;
    for (name, dark) in [("light", false), ("dark", true), ("phone", false)] {
        let browser = if name == "phone" {
            driver.phone().await
        } else {
            let scheme = if dark { "0" } else { "1" };
            let scheme = format!("--blink-settings=preferredColorScheme={scheme}");
            let browser = driver.browser(&[&scheme, "--hide-scrollbars"]).await;
            browser.set_window_size(760, 600).await.unwrap();
            browser
        };
        browser.sign_in(&page, "alice").await;
        let query = "return matchMedia('(prefers-color-scheme: dark)').matches";
        assert_eq!(browser.run(query).await, dark, "{name}");
        fits(&browser, name).await;
        if let Some(folder) = std::env::var_os("FASTSESSION_SCREENSHOTS") {
            let picture = browser.screenshot().await.unwrap();
            let path = PathBuf::from(folder).join(format!("login-{name}.png"));
            std::fs::write(path, picture).unwrap();
        }
        browser.click("#logout").await;
        browser.until_heading("Sign in").await;
        fits(&browser, name).await;
        browser.quit().await;
    }
    other.quit().await;
}

async fn fits(browser: &Browser, name: &str) {
    let widths = browser.run(WIDTHS).await;
    assert!(widths[0].as_u64() <= widths[1].as_u64(), "{name} scrolls sideways: {widths}");
}
