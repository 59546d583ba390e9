//! The cookie, as scripts and other sites see it.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::common::Server;
use crate::driver::Driver;
use crate::{CHROMIUM, installed};

/// Serves `html` on `127.0.0.1` to whoever asks, until the test ends. Another site than
/// `localhost`, as far as a browser is concerned.
fn other_site(html: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
                 Connection: close\r\n\r\n{html}",
                html.len()
            );
        }
    });
    format!("http://{address}/")
}

#[tokio::test]
async fn security_04_another_site_cannot_act_in_the_visitors_name() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start("login", &folder.path().join("sessions.redb"));
    let port = server.address.rsplit(':').next().unwrap();
    let page = format!("http://localhost:{port}/");
    let driver = Driver::start();
    let browser = driver.browser(&[]).await;
    browser.sign_in(&page, "alice").await;

    let forged = other_site(format!(
        "<form id=f method=post action=\"{page}logout\"></form>\
         <a id=a href=\"{page}\">a link</a><script>\
         fetch('{page}logout', {{ method: 'POST', mode: 'no-cors', credentials: 'include' }})\
         .then(() => {{ document.title = 'sent' }});</script>"
    ));
    browser.goto(&forged).await.unwrap();
    let sent = || async { browser.title().await.unwrap() == "sent" };
    while !sent().await {
        tokio::task::yield_now().await;
    }
    browser.run("document.getElementById('f').submit()").await;
    // Neither carried the cookie, so that nobody was signed out; the page that the form's answer
    // redirects to is a plain link again.
    browser.until_heading("Hello, alice").await;
    browser.refresh().await.unwrap();
    browser.until_heading("Hello, alice").await;

    // A link from there is a person's doing, and finds them signed in.
    browser.goto(&forged).await.unwrap();
    browser.click("#a").await;
    browser.until_heading("Hello, alice").await;
    browser.quit().await;
}

#[tokio::test]
async fn security_04_scripts_do_not_see_the_cookie() {
    if !installed(&CHROMIUM) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start("login", &folder.path().join("sessions.redb"));
    let driver = Driver::start();
    let browser = driver.browser(&[]).await;
    browser.sign_in(&format!("http://{}/", server.address), "alice").await;
    assert_eq!(browser.run("return document.cookie").await, "");
    browser.run("document.cookie = 'sid=forged; path=/'").await;
    browser.refresh().await.unwrap();
    browser.until_heading("Hello, alice").await;
    let cookies = browser.get_all_cookies().await.unwrap();
    assert_eq!(cookies.len(), 1, "{cookies:?}");
    assert_eq!(cookies[0].http_only(), Some(true));
    browser.quit().await;
}
