//! Signing in and out, as a person sees it.

use std::path::Path;

use fantoccini::Locator;

use crate::common::{Server, tool_says};
use crate::driver::Driver;
use crate::{CHROMIUM, installed};

const SIGN_IN: &str = "Sign in";
const HELLO: &str = "Hello, alice";

fn serve(folder: &Path) -> (Server, String) {
    let server = Server::start("login", &folder.join("sessions.redb"));
    let page = format!("http://{}/", server.address);
    (server, page)
}

#[tokio::test]
async fn two_profiles_are_two_devices_and_one_ends_the_other() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_server, page) = serve(folder.path());
    let driver = Driver::start();
    let (phone, desk) = (driver.browser(&[]).await, driver.browser(&[]).await);
    phone.sign_in(&page, "alice").await;
    desk.sign_in(&page, "alice").await;
    let devices = desk.devices().await;
    assert_eq!(devices.len(), 2);
    assert_eq!(phone.devices().await.len(), 1, "the page of before");
    phone.refresh().await.unwrap();
    assert_eq!(phone.devices().await.len(), 2);

    // From the page.
    desk.click("li form button").await;
    desk.wait().for_element(Locator::XPath("//p[contains(., 'one device')]")).await.unwrap();
    phone.until_heading(SIGN_IN).await;
    desk.until_heading(HELLO).await;

    // From the command line.
    let file = folder.path().join("sessions.redb");
    tool_says(&file, &["expire", &devices[0]]);
    desk.until_heading(SIGN_IN).await;
    phone.quit().await;
    desk.quit().await;
}

#[tokio::test]
async fn signing_out_everywhere_reaches_every_device() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_server, page) = serve(folder.path());
    let driver = Driver::start();
    let (first, second) = (driver.browser(&[]).await, driver.browser(&[]).await);
    let stranger = driver.browser(&[]).await;
    stranger.sign_in(&page, "bob").await;
    first.sign_in(&page, "alice").await;
    second.sign_in(&page, "alice").await;
    second.click("#logout-everywhere").await;
    second.until_heading(SIGN_IN).await;
    first.until_heading(SIGN_IN).await;
    stranger.refresh().await.unwrap();
    stranger.until_heading("Hello, bob").await;

    // Ending the others leaves one's own.
    first.sign_in(&page, "alice").await;
    second.sign_in(&page, "alice").await;
    second.click("#end-others").await;
    first.until_heading(SIGN_IN).await;
    second.refresh().await.unwrap();
    second.until_heading(HELLO).await;
    for browser in [first, second, stranger] {
        browser.quit().await;
    }
}

#[tokio::test]
async fn the_back_button_shows_nothing_after_signing_out() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_server, page) = serve(folder.path());
    let driver = Driver::start();
    let browser = driver.browser(&[]).await;
    browser.sign_in(&page, "alice").await;
    browser.goto(&format!("{page}?elsewhere")).await.unwrap();
    browser.until_heading(HELLO).await;
    browser.click("#logout").await;
    browser.until_heading(SIGN_IN).await;
    for _ in 0..2 {
        browser.back().await.unwrap();
        browser.until_heading(SIGN_IN).await;
        assert!(!browser.text().await.contains("alice"));
    }
    assert!(browser.get_all_cookies().await.unwrap().is_empty(), "the cookie is deleted");
    browser.quit().await;
}

#[tokio::test]
async fn rule_08_tabs_that_load_during_a_login_do_not_undo_it() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (_server, page) = serve(folder.path());
    let driver = Driver::start();
    let browser = driver.browser(&[]).await;
    for round in 0..3 {
        let user = format!("alice{round}");
        browser.goto(&page).await.unwrap();
        let signing_in = browser.window().await.unwrap();
        let mut tabs = Vec::new();
        for _ in 0..3 {
            let tab = browser.new_window(true).await.unwrap().handle;
            browser.switch_to_window(tab.clone()).await.unwrap();
            browser.goto(&page).await.unwrap();
            // Asks again and again while another tab signs in.
            let busy = "window.busy = setInterval(() => fetch('/'), 50);";
            browser.run(busy).await;
            tabs.push(tab);
        }
        browser.switch_to_window(signing_in.clone()).await.unwrap();
        browser.sign_in(&page, &user).await;
        for tab in tabs {
            browser.switch_to_window(tab).await.unwrap();
            browser.run("clearInterval(window.busy)").await;
            browser.refresh().await.unwrap();
            browser.until_heading(&format!("Hello, {user}")).await;
            browser.close_window().await.unwrap();
        }
        browser.switch_to_window(signing_in).await.unwrap();
        browser.refresh().await.unwrap();
        browser.until_heading(&format!("Hello, {user}")).await;
        browser.click("#logout").await;
        browser.until_heading(SIGN_IN).await;
    }
    browser.quit().await;
}
