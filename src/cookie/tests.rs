use std::time::Duration;

use super::parse::{MAX_CANDIDATES, MAX_HEADER_BYTES};
use super::*;

/// Name and value as in the tables of hostile headers. The value's own form is another module's.
const C: &str = "__Host-sid";
const V: &str = "1.bbc8774f.AQIDBAUGBwgJ";

fn parse<'a>(headers: &[&'a [u8]]) -> Candidates<'a> {
    candidates(headers.iter().copied(), C)
}

#[track_caller]
fn assert_found(headers: &[&[u8]], expected: &[&[u8]]) {
    match parse(headers) {
        Candidates::Found(found) => assert_eq!(&*found, expected, "{headers:?}"),
        other => panic!("{other:?} in {headers:?}"),
    }
}

/// With `C` and `V` standing for name and value.
fn header(pattern: &str) -> String {
    pattern.replace('C', C).replace('V', V)
}

mod headers {
    use super::*;

    #[test]
    fn no_cookie_is_found_where_there_is_none() {
        assert_found(&[], &[]);
        for pattern in [
            "",
            " ",
            "\t",
            ";",
            ";;;;",
            "; ; ;",
            "=",
            "==",
            "=V",
            "=C=V",
            " = C=V",
            "C",
            "C;V",
            "C:V",
            "V",
            "a=b, C=V",
            "a=C=V",
            "xC=V",
            "Cx=V",
            "\"C\"=V",
            "C[]=V",
            "C%20=V",
            "$Version=1, C=V",
            "\u{2000}C=V",
            "\u{a0}C=V",
            "\u{feff}C=V",
            "C\u{a0}=V",
            "\u{b}C=V",
            "\rC=V",
            "\nC=V",
            "\0C=V",
        ] {
            assert_found(&[header(pattern).as_bytes()], &[]);
        }
    }

    #[test]
    fn the_name_is_compared_byte_by_byte() {
        for name in ["__host-sid", "__HOST-SID", "__Host-SID", "%5F_Host-sid", "__Host%2Dsid"] {
            assert_found(&[format!("{name}={V}").as_bytes()], &[]);
        }
    }

    #[test]
    fn the_value_is_found_wherever_it_is() {
        for pattern in [
            "C=V",
            "a=1;C=V",
            "a=1; C=V",
            "a=1;\tC=V",
            "a=1; \t C=V",
            " C=V ",
            "C = V",
            "C=\t V \t",
            "C\t=V",
            "C=V;garbage",
            "garbage;C=V",
            "C=V;",
            ";;C=V;;",
            "=;C=V;==",
            "C;C=V",
            "a=\";C=V;\"",
        ] {
            assert_found(&[header(pattern).as_bytes()], &[V.as_bytes()]);
        }
    }

    #[test]
    fn the_value_is_left_as_it_is() {
        for value in ["\"V\"", "V V", "%31.V", "V=", "=V", "V,V", "", "V\u{e9}", "\u{feff}V"] {
            let value = value.replace('V', V);
            let header = format!("{C}={value}");
            assert_found(&[header.as_bytes()], &[value.as_bytes()]);
        }
        let invalid_utf8 = [C.as_bytes(), b"=\xff\xfe\x80"].concat();
        assert_found(&[&invalid_utf8], &[b"\xff\xfe\x80"]);
        let long = format!("{C}={}", "A".repeat(4097));
        assert_found(&[long.as_bytes()], &[&long.as_bytes()[C.len() + 1..]]);
    }

    #[test]
    fn any_bytes_may_be_in_another_cookie() {
        for byte in (0..=u8::MAX).filter(|&byte| byte != b';') {
            let header = [b"a=", &[byte][..], b"; ", header("C=V").as_bytes()].concat();
            assert_found(&[&header], &[V.as_bytes()]);
        }
    }

    #[test]
    fn several_headers_are_one() {
        let cookie = header("C=V");
        let cookie = cookie.as_bytes();
        assert_found(&[b"a=1", cookie], &[V.as_bytes()]);
        assert_found(&[cookie, b"a=1"], &[V.as_bytes()]);
        assert_found(&[b"a=1", b"b=2", b"", cookie, b"c=3"], &[V.as_bytes()]);
        assert_found(&[C.as_bytes(), b"=", V.as_bytes()], &[]);
    }

    #[test]
    fn duplicates_are_all_found_in_any_order() {
        let [a, b, c, d] = ["C=1", "C=2", "C=", "C=4"].map(header);
        for order in [[&a, &b, &c, &d], [&d, &c, &b, &a], [&b, &d, &a, &c]] {
            let together = order.map(String::as_str).join("; ");
            let apart = order.map(String::as_bytes);
            for candidates in [parse(&[together.as_bytes()]), parse(&apart)] {
                let Candidates::Found(found) = candidates else { panic!("{candidates:?}") };
                let mut values = found.to_vec();
                values.sort_unstable();
                assert_eq!(values, [&b""[..], b"1", b"2", b"4"]);
            }
        }
    }

    #[test]
    fn identical_values_count_once_but_are_bounded() {
        let cookies = |count| vec![header("C=V"); count].join("; ");
        assert_found(&[cookies(2).as_bytes()], &[V.as_bytes()]);
        assert_found(&[cookies(MAX_CANDIDATES).as_bytes()], &[V.as_bytes()]);
        assert_eq!(parse(&[cookies(MAX_CANDIDATES + 1).as_bytes()]), Candidates::TooMany);
        assert_eq!(parse(&[cookies(4).as_bytes(), cookies(1).as_bytes()]), Candidates::TooMany);
        assert_eq!(parse(&[cookies(400).as_bytes()]), Candidates::TooMany);
    }

    #[test]
    fn too_many_candidates_are_none_wherever_the_right_one_is() {
        for position in 0..=MAX_CANDIDATES {
            let mut cookies = vec![header("C=x"); MAX_CANDIDATES];
            cookies.insert(position, header("C=V"));
            assert_eq!(parse(&[cookies.join(";").as_bytes()]), Candidates::TooMany);
        }
    }

    #[test]
    fn the_bound_on_bytes_counts_all_headers() {
        let cookie = header("C=V; ");
        let fill = |len: usize| format!("{cookie}{}", "x".repeat(len - cookie.len()));
        assert_found(&[fill(MAX_HEADER_BYTES).as_bytes()], &[V.as_bytes()]);
        assert_eq!(parse(&[fill(MAX_HEADER_BYTES + 1).as_bytes()]), Candidates::TooLarge);

        let half = fill(MAX_HEADER_BYTES / 2);
        assert_found(&[half.as_bytes(), half.as_bytes()], &[V.as_bytes()]);
        assert_eq!(parse(&[half.as_bytes(), half.as_bytes(), b"x"]), Candidates::TooLarge);

        for hostile in [";".repeat(100_000), header("C=V;").repeat(10_000), "=".repeat(400 << 10)] {
            assert_eq!(parse(&[hostile.as_bytes()]), Candidates::TooLarge);
            assert_eq!(parse(&[cookie.as_bytes(), hostile.as_bytes()]), Candidates::TooLarge);
        }
        let long = format!("{C}={}", "A".repeat(64 << 10));
        assert_eq!(parse(&[long.as_bytes()]), Candidates::TooLarge);
    }
}

mod set_cookie {
    use super::*;

    fn builder() -> CookieOptionsBuilder {
        CookieOptions::builder()
    }

    #[test]
    fn the_default_is_strict() {
        let options = CookieOptions::default();
        assert_eq!(
            options.set_cookie("v", None),
            "__Host-sid=v; Path=/; SameSite=Lax; Secure; HttpOnly"
        );
        assert!(options.is_secure() && !options.is_persistent());
        assert_eq!(builder().build().unwrap(), options);
    }

    #[test]
    fn plain_http_has_neither_secure_nor_prefix() {
        let options = CookieOptions::insecure_http();
        assert_eq!(options.set_cookie("v", None), "sid=v; Path=/; SameSite=Lax; HttpOnly");
        assert!(!options.is_secure());
        assert_eq!(options.to_builder().build().unwrap(), options);
    }

    #[test]
    fn every_attribute_is_written_and_repeated_on_deletion() {
        let options = builder()
            .name("__Secure-sid")
            .path("/app")
            .domain("example.com")
            .same_site(SameSite::None)
            .http_only(false)
            .partitioned(true)
            .persistent(true)
            .build()
            .unwrap();
        let attributes = "Path=/app; Domain=example.com; SameSite=None; Secure; Partitioned";
        assert!(options.is_persistent());
        assert_eq!(
            options.set_cookie("v", Some(Duration::from_secs(60))),
            format!("__Secure-sid=v; Max-Age=60; {attributes}")
        );
        assert_eq!(
            options.delete_cookie(),
            format!(
                "__Secure-sid=; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; {attributes}"
            )
        );
        let strict = builder().same_site(SameSite::Strict).build().unwrap();
        assert!(strict.set_cookie("v", None).contains("; SameSite=Strict"));
    }

    #[test]
    fn max_age_is_rounded_up_and_at_most_400_days() {
        let max_age = |age| CookieOptions::default().set_cookie("v", Some(age));
        for (age, seconds) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1500), 2),
            (Duration::from_secs(34_560_000), 34_560_000),
            (Duration::from_millis(34_560_000_001), 34_560_000),
            (Duration::MAX, 34_560_000),
        ] {
            assert!(max_age(age).contains(&format!("; Max-Age={seconds};")), "{age:?}");
        }
    }

    #[test]
    fn contradictions_are_refused() {
        for refused in [
            builder().domain("example.com"),
            builder().path("/app"),
            builder().secure(false),
            builder().name("__host-sid").path("/app"),
            builder().name("__HOST-sid").domain("example.com"),
            builder().name("__hOST-sid").secure(false),
            builder().name("__Secure-sid").secure(false),
            builder().name("__SECURE-sid").secure(false),
            builder().name("__Http-sid").http_only(false),
            builder().name("__Host-Http-sid").http_only(false),
            builder().name("sid").secure(false).same_site(SameSite::None),
            builder().name("sid").secure(false).partitioned(true),
            CookieOptions::insecure_http().to_builder().name("__Host-sid"),
        ] {
            let error = refused.clone().build().expect_err(&format!("{refused:?}"));
            assert!(error.is_invalid() && error.to_string().starts_with("cookie options: "));
        }
        for accepted in [
            builder().name("sid").domain("example.com").path("/app"),
            builder().name("__Secure-sid").domain("example.com").path("/app"),
            builder().same_site(SameSite::None).partitioned(true),
            builder().http_only(false),
            builder().name("sid").secure(false),
        ] {
            accepted.clone().build().unwrap_or_else(|error| panic!("{accepted:?}: {error}"));
        }
    }

    #[test]
    fn names_are_tokens_that_leave_room_for_the_value() {
        let name = |name: &str| builder().name(name).build();
        let too_long = "n".repeat(4096 - crate::keyring::SEALED_LEN + 1);
        for refused in
            ["", " ", "s d", "s;d", "s=d", "s,d", "\"sid\"", "s\td", "s\0d", "sïd", "s/d"]
                .into_iter()
                .chain([too_long.as_str()])
        {
            assert!(name(refused).unwrap_err().is_invalid(), "{refused:?}");
        }
        assert!(name(&too_long[1..]).is_ok());
        assert!(name("a-Z0_9!#$%&'*+.^`|~").is_ok());
    }

    #[test]
    fn paths_and_domains_cannot_inject_attributes() {
        let base = || builder().name("sid");
        for path in
            ["", "app", "/a;b", "/a; Domain=evil", "/a b", "/a\r\nX: y", "/a\0", "/ä", "/\x7f"]
                .into_iter()
                .map(str::to_owned)
                .chain([format!("/{}", "a".repeat(1024))])
        {
            assert!(base().path(&path).build().unwrap_err().is_invalid(), "{path:?}");
        }
        for domain in [
            "",
            ".",
            ".example.com",
            "example.com.",
            "a..b",
            "a;b",
            "a b",
            "a\n",
            "exämple.com",
            "a:80",
            "a/b",
            "*.example.com",
        ]
        .into_iter()
        .map(str::to_owned)
        .chain(["a.".repeat(512) + "b"])
        {
            assert!(base().domain(&domain).build().unwrap_err().is_invalid(), "{domain:?}");
        }
        assert!(base().path("/a/b%20c").domain("xn--exmple-cua.com").build().is_ok());
    }
}
