use super::*;

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(*name, http::HeaderValue::from_static(value));
    }
    map
}

fn hosts(address: &str) -> Hosts {
    Hosts::new(address.parse().unwrap(), vec!["aegis.example.com".to_owned()])
}

#[test]
fn only_our_own_names_are_answered() {
    let local = hosts("127.0.0.1:8088");
    let good =
        ["127.0.0.1:8088", "localhost:8088", "localhost", "[::1]:8088", "[::1]", "AEGIS.example.com:8088"];
    for host in good {
        assert_eq!(check_source(&headers(&[("host", host)]), &local), Ok(()), "{host}");
    }
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8088", "10.0.0.1", ""] {
        assert_eq!(check_source(&headers(&[("host", host)]), &local), Err(Foreign::Host), "{host}");
    }
    assert_eq!(check_source(&headers(&[]), &local), Err(Foreign::Host));
    let twice = headers(&[("host", "localhost"), ("host", "evil.example")]);
    assert_eq!(check_source(&twice, &local), Err(Foreign::Host));
}

#[test]
fn a_bare_address_is_taken_when_bound_to_all() {
    let all = hosts("0.0.0.0:8088");
    assert_eq!(check_source(&headers(&[("host", "10.0.0.1:8088")]), &all), Ok(()));
    assert_eq!(check_source(&headers(&[("host", "evil.example:8088")]), &all), Err(Foreign::Host));
}

#[test]
fn other_sites_are_refused() {
    let local = hosts("127.0.0.1:8088");
    let host = ("host", "127.0.0.1:8088");
    assert_eq!(check_source(&headers(&[host, ("origin", "http://127.0.0.1:8088")]), &local), Ok(()));
    for origin in ["null", "http://evil.example", "http://127.0.0.1:3000", "http://localhost:8088", "x"] {
        let map = headers(&[host, ("origin", origin)]);
        assert_eq!(check_source(&map, &local), Err(Foreign::Origin), "{origin}");
    }
}

#[test]
fn a_credential_is_one_bearer_token() {
    assert_eq!(bearer(&headers(&[("authorization", "Bearer abc")])), Some("abc"));
    assert_eq!(bearer(&headers(&[("authorization", "bearer abc")])), Some("abc"));
    for map in [
        headers(&[]),
        headers(&[("authorization", "Basic abc")]),
        headers(&[("authorization", "abc")]),
        headers(&[("authorization", "Bearer a"), ("authorization", "Bearer b")]),
    ] {
        assert_eq!(bearer(&map), None, "{map:?}");
    }
}

#[test]
fn bodies_are_json_or_yaml() {
    let post = |pairs| has_known_body_type(&Method::POST, &headers(pairs));
    assert!(post(&[]));
    assert!(post(&[("content-length", "0")]));
    assert!(post(&[("content-length", "2"), ("content-type", "application/json; charset=utf-8")]));
    assert!(post(&[("transfer-encoding", "chunked"), ("content-type", "application/yaml")]));
    assert!(!post(&[("content-length", "2")]));
    assert!(!post(&[("content-length", "2"), ("content-type", "text/plain")]));
    assert!(!post(&[("content-length", "2"), ("content-type", "application/x-www-form-urlencoded")]));
    assert!(!post(&[("transfer-encoding", "chunked"), ("content-type", "multipart/form-data; boundary=x")]));
}

#[test]
fn a_tenant_is_a_name() {
    assert_eq!(caller(&headers(&[])).unwrap().tenant, Tenant::default_tenant());
    assert_eq!(caller(&headers(&[("x-aegis-tenant", "acme")])).unwrap().tenant.as_str(), "acme");
    assert!(caller(&headers(&[("x-aegis-tenant", "../x")])).is_err());
}
