//! Requests as a browser makes them, on a router in this process.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Request, Uri, header};
use axum::response::Response;
use http_body_util::BodyExt;
use tower::ServiceExt;

/// A request to be made many times.
#[derive(Clone)]
pub(crate) struct Template {
    uri: Uri,
    cookie: Option<HeaderValue>,
}

impl Template {
    pub(crate) fn new(path: &'static str, cookie: Option<HeaderValue>) -> Self {
        Self { uri: Uri::from_static(path), cookie }
    }

    pub(crate) fn request(&self) -> Request<Body> {
        let mut request = Request::new(Body::empty());
        request.uri_mut().clone_from(&self.uri);
        if let Some(cookie) = &self.cookie {
            request.headers_mut().insert(header::COOKIE, cookie.clone());
        }
        request
    }
}

/// A browser with its cookies.
#[derive(Clone)]
pub(crate) struct Browser {
    app: Router,
    jar: BTreeMap<String, String>,
}

impl Browser {
    pub(crate) fn new(app: &Router) -> Self {
        Self { app: app.clone(), jar: BTreeMap::new() }
    }

    /// Requests `path`, keeps the cookies and returns the body.
    pub(crate) async fn get(&mut self, path: &'static str) -> String {
        let response = self.send(path).await;
        self.receive(response.headers());
        let bytes = response.into_body().collect().await.map(|body| body.to_bytes());
        String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned()
    }

    /// Requests `path` and forgets the cookies of the response.
    pub(crate) async fn peek(&self, path: &'static str) -> Response {
        self.send(path).await
    }

    /// The `Cookie` header it sends.
    pub(crate) fn cookie(&self) -> Option<HeaderValue> {
        let pairs: Vec<_> =
            self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        (!pairs.is_empty()).then(|| HeaderValue::try_from(pairs.join("; ")).expect("cookies"))
    }

    /// The same on another router.
    pub(crate) async fn peek_at(&self, app: &Router, path: &'static str) -> Response {
        let request = Template::new(path, self.cookie()).request();
        let Ok(response) = app.clone().oneshot(request).await;
        response
    }

    async fn send(&self, path: &'static str) -> Response {
        self.peek_at(&self.app, path).await
    }

    fn receive(&mut self, headers: &HeaderMap) {
        for value in headers.get_all(header::SET_COOKIE) {
            let text = value.to_str().expect("a cookie is text");
            let (pair, attributes) = text.split_once(';').unwrap_or((text, ""));
            let (name, value) = pair.split_once('=').expect("a cookie has a name");
            if attributes.contains("Max-Age=0") {
                self.jar.remove(name);
            } else {
                self.jar.insert(name.into(), value.into());
            }
        }
    }
}
