//! Rules on connections: what they permit, and what no rule can make them permit.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aegis_core::DenialCode;
use aegis_security::egress::{
    AddressClass, BodyLength, CLIENT_HELLO_BYTES_MAX, ClientHello, ClientHelloError, Destination, EgressMode,
    EgressRules, HeadError, Host, RequestHead, RequestTarget, is_public,
};
use proptest::prelude::*;

fn rules(mode: EgressMode, allow: &[&str], deny: &[&str]) -> EgressRules {
    let list = |texts: &[&str]| texts.iter().map(|&text| Destination::from(text)).collect::<Vec<_>>();
    EgressRules::new("manifest:a@1.0.0", mode, &list(allow), &list(deny)).unwrap()
}

fn host(text: &str) -> Host {
    Host::parse(text).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn names_and_ports_are_permitted_as_written() {
    let rules = rules(
        EgressMode::Allow,
        &["api.example.org", "*.example.net", "db.example.org:5432"],
        &["bad.example.net"],
    );
    for (name, port, expected) in [
        ("api.example.org", 443, Ok("allowlist:0")),
        ("API.example.org.", 80, Ok("allowlist:0")),
        ("api.example.org", 8443, Err("allowlist")),
        ("a.example.net", 443, Ok("allowlist:1")),
        ("a.b.example.net", 443, Ok("allowlist:1")),
        ("example.net", 443, Err("allowlist")),
        ("xexample.net", 443, Err("allowlist")),
        ("example.net.evil.org", 443, Err("allowlist")),
        ("bad.example.net", 443, Err("denylist:0")),
        ("db.example.org", 5432, Ok("allowlist:2")),
        ("db.example.org", 443, Err("allowlist")),
        ("93.184.215.14", 443, Err("allowlist")),
    ] {
        let answer = rules.permits_name(&host(name), port);
        let shown = match &answer {
            Ok(permit) => Ok(permit.rule.as_str()),
            Err(denial) => {
                assert_eq!(denial.code, DenialCode::DomainNotAllowed);
                assert!(!denial.remedy.is_empty());
                Err(denial.rule.as_str())
            }
        };
        let full = |rule: &str| format!("manifest:a@1.0.0/{rule}");
        assert_eq!(
            shown.map(str::to_owned).map_err(str::to_owned),
            expected.map(full).map_err(full),
            "{name}:{port}"
        );
    }
}

#[test]
fn modes_mean_what_they_say() {
    let none = rules(EgressMode::None, &["example.org"], &[]);
    assert!(none.permits_name(&host("example.org"), 443).is_err() && !none.is_open());
    assert!(!rules(EgressMode::Allow, &[], &[]).is_open());
    let deny = rules(EgressMode::Deny, &[], &["*.ru", "evil.example", "198.41.0.0/24", "x.example:80"]);
    for (name, port, permitted) in [
        ("example.org", 443, true),
        ("example.org", 22, false),
        ("a.ru", 443, false),
        ("evil.example", 80, false),
        ("198.41.0.4", 443, false),
        ("x.example", 80, false),
        ("x.example", 443, true),
        ("127.0.0.1", 80, true),
    ] {
        assert_eq!(deny.permits_name(&host(name), port).is_ok(), permitted, "{name}:{port}");
    }
    let example = host("example.org");
    assert!(deny.permits_addresses(&example, &[ip("1.1.1.1")], 443, &[]).is_ok());
    assert!(deny.permits_addresses(&example, &[ip("198.41.0.4")], 443, &[]).is_err(), "by another name");
    assert!(deny.permits_addresses(&example, &[ip("127.0.0.1")], 80, &[]).is_err());
}

#[test]
fn an_address_that_is_not_public_needs_a_range_that_means_it() {
    let own = [ip("10.0.0.9"), ip("1.2.3.4")];
    let answer = |allow: &[&str], addresses: &[&str], port| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|text| ip(text)).collect();
        let mut allow = allow.to_vec();
        allow.push("index.example.org");
        rules(EgressMode::Allow, &allow, &[]).permits_addresses(
            &host("index.example.org"),
            &addresses,
            port,
            &own,
        )
    };
    for (allow, addresses, port, permitted) in [
        (&[][..], &["1.1.1.1"][..], 443, true),
        (&[], &["1.1.1.1", "127.0.0.1"], 443, false),
        (&[], &["10.0.0.1"], 443, false),
        (&["10.0.0.0/8"], &["10.0.0.1"], 443, true),
        (&["10.0.0.0/8"], &["::ffff:10.0.0.1"], 443, true),
        (&["10.0.0.0/8"], &["64:ff9b::a00:1"], 443, true),
        (&["10.0.0.0/8"], &["10.0.0.1"], 3141, false),
        (&["10.0.0.0/8:3141"], &["10.0.0.1"], 3141, true),
        (&["10.0.0.0/8"], &["10.0.0.1", "192.168.0.1"], 443, false),
        (&["127.0.0.0/8"], &["127.0.0.1"], 80, true),
        (&["127.0.0.1"], &["127.0.0.2"], 80, false),
        // A range that also holds public addresses opens those alone.
        (&["0.0.0.0/0"], &["10.0.0.1"], 443, false),
        (&["0.0.0.0/0"], &["1.1.1.1"], 443, true),
        (&["128.0.0.0/1"], &["169.254.169.254"], 80, false),
        (&["::/0"], &["::1"], 443, false),
        (&["::/0"], &["fd00::1"], 443, false),
        (&["fd00::/8"], &["fd00::1"], 443, true),
        // Metadata is meant only where it is written out.
        (&["169.254.0.0/16"], &["169.254.169.254"], 80, false),
        (&["169.254.0.0/16"], &["169.254.1.1"], 80, true),
        (&["169.254.169.254/32"], &["169.254.169.254"], 80, true),
        // So is this machine.
        (&["10.0.0.0/8"], &["10.0.0.9"], 443, false),
        (&["10.0.0.9/32"], &["10.0.0.9"], 443, true),
        (&[], &["1.2.3.4"], 443, false),
        (&["1.2.0.0/16"], &["1.2.3.4"], 443, false),
        (&["1.2.3.4"], &["1.2.3.4"], 443, true),
        (&[], &[], 443, false),
    ] {
        let answer = answer(allow, addresses, port);
        assert_eq!(answer.is_ok(), permitted, "{allow:?} {addresses:?} {answer:?}");
    }
}

#[test]
fn raw_is_what_the_matching_rule_says() {
    let list = [
        Destination::from("git.example.org:22"),
        Destination { text: "git.example.org:22".to_owned(), raw: true },
        Destination::from("git.example.org"),
    ];
    let rules = EgressRules::new("node", EgressMode::Allow, &list, &[]).unwrap();
    let permit = rules.permits_name(&host("git.example.org"), 22).unwrap();
    assert_eq!((permit.rule.as_str(), permit.raw), ("node/allowlist:1", true));
    assert!(!rules.permits_name(&host("git.example.org"), 443).unwrap().raw);
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
        any::<u32>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(0x64ff9b << 96 | u128::from(bits)))),
        (any::<u32>(), any::<u64>()).prop_map(|(bits, low)| {
            IpAddr::V6(Ipv6Addr::from_bits(0x2002 << 112 | u128::from(bits) << 80 | u128::from(low)))
        }),
        prop::sample::select(&[0x7f00_0001u32, 0x0a00_0001, 0xa9fe_a9fe, 0xc0a8_0101, 0xac10_0001][..])
            .prop_map(|bits| IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// No rule on a name opens a place that is not public, whatever else is named.
    #[test]
    fn no_name_opens_a_special_address(address in address(), name in "[a-z]{1,8}(\\.[a-z]{1,8}){1,3}", deny in any::<bool>()) {
        let wild = format!("*.{name}");
        let mode = if deny { EgressMode::Deny } else { EgressMode::Allow };
        let mut allow = vec![Destination::from(name.as_str()), Destination::from("0.0.0.0/0"), Destination::from("::/0")];
        if EgressRules::new("m", mode, &[wild.as_str().into()], &[]).is_ok() {
            allow.push(wild.as_str().into());
        }
        let rules = EgressRules::new("m", mode, &allow, &[]).unwrap();
        let permitted = rules.permits_addresses(&host(&name), &[address], 443, &[]).is_ok();
        prop_assert_eq!(permitted, is_public(address));
        prop_assert_eq!(permitted, AddressClass::of(address).is_none());
    }

    /// An address of this machine is opened by its own entry alone.
    #[test]
    fn no_name_opens_this_machine(address in address()) {
        let rules = rules(EgressMode::Allow, &["example.org", "0.0.0.0/0", "::/0"], &[]);
        prop_assert!(rules.permits_addresses(&host("example.org"), &[address], 443, &[address]).is_err());
    }

    /// One bad address among good ones is enough.
    #[test]
    fn every_address_must_pass(good in 0usize..4, low in 0u32..1 << 24, prefix in prop::sample::select(&[10u32, 127, 0, 240][..])) {
        let address = IpAddr::V4(Ipv4Addr::from_bits(prefix << 24 | low));
        let mut all = vec![ip("1.1.1.1"); good];
        all.insert(good / 2, address);
        let rules = rules(EgressMode::Allow, &["example.org"], &[]);
        prop_assert!(rules.permits_addresses(&host("example.org"), &all, 443, &[]).is_err());
    }

    /// A host is a fixed point of its form.
    #[test]
    fn hosts_have_one_form(text in "\\PC{0,40}") {
        if let Ok(parsed) = Host::parse(&text) {
            prop_assert_eq!(Host::parse(&parsed.to_string()), Ok(parsed));
        }
    }
}

/// A ClientHello with these extensions, as one handshake message.
fn hello(extensions: &[(u16, Vec<u8>)]) -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend([7; 32]);
    body.push(0);
    body.extend([0, 2, 0x13, 0x01, 1, 0]);
    let mut all = Vec::new();
    for (kind, content) in extensions {
        all.extend(kind.to_be_bytes());
        all.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        all.extend(content);
    }
    body.extend(u16::try_from(all.len()).unwrap().to_be_bytes());
    body.extend(all);
    let mut message = vec![1];
    message.extend(&u32::try_from(body.len()).unwrap().to_be_bytes()[1..]);
    message.extend(body);
    message
}

fn name(text: &str) -> (u16, Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap();
    let mut content = (length + 3).to_be_bytes().to_vec();
    content.push(0);
    content.extend(length.to_be_bytes());
    content.extend(text.as_bytes());
    (0, content)
}

/// The message in records of at most `size` bytes.
fn records(message: &[u8], size: usize) -> Vec<u8> {
    let record = |part: &[u8]| {
        let mut bytes = vec![22, 3, 1];
        bytes.extend(u16::try_from(part.len()).unwrap().to_be_bytes());
        bytes.extend(part);
        bytes
    };
    message.chunks(size).flat_map(record).collect()
}

#[test]
fn the_server_name_is_read_from_any_split() {
    let message = hello(&[(43, vec![2, 3, 4]), name("Api.example.org"), (0xfe0d, vec![1; 200])]);
    let expected = Ok(Some(ClientHello { server_name: Some(host("api.example.org")) }));
    for size in [1, 2, 3, 4, 5, 17, 100, 16384] {
        let bytes = records(&message, size);
        assert_eq!(ClientHello::parse(&bytes), expected, "{size}");
        for end in 0..bytes.len() {
            assert_eq!(ClientHello::parse(&bytes[..end]), Ok(None), "{size} {end}");
        }
        let mut more = bytes.clone();
        more.extend(b"anything");
        assert_eq!(ClientHello::parse(&more), expected);
    }
    let none = records(&hello(&[]), 16384);
    assert_eq!(ClientHello::parse(&none), Ok(Some(ClientHello { server_name: None })));
}

#[test]
fn what_is_no_sound_client_hello_is_refused() {
    for bytes in
        [&b"GET / HTTP/1.1\r\n"[..], b"SSH-2.0-x\r\n", b"\x17\x03\x03\x00\x10", b"\x16\x02", b"\x80\x2e\x01"]
    {
        assert_eq!(ClientHello::parse(bytes), Err(ClientHelloError::NotTls), "{bytes:?}");
    }
    let malformed = |extensions: &[(u16, Vec<u8>)]| ClientHello::parse(&records(&hello(extensions), 16384));
    let refused = Err(ClientHelloError::Malformed);
    assert_eq!(malformed(&[name("a.example"), name("b.example")]), refused, "two names");
    let mut two = name("a.example").1;
    two.extend([0, 0, 1, b'b']);
    two[1] += 4;
    assert_eq!(malformed(&[(0, two)]), refused, "two names in one list");
    for text in ["", "a b", "a\0b", "127.1", "b\u{fc}cher.example"] {
        assert_eq!(malformed(&[name(text)]), refused, "{text}");
    }
    assert_eq!(malformed(&[(0, vec![])]), refused);
    assert_eq!(ClientHello::parse(&[22, 3, 1, 0, 0]), refused, "an empty record");
    assert_eq!(ClientHello::parse(&[22, 3, 1, 0x40, 1]), refused, "a record that is too long");
    let mut server = hello(&[]);
    server[0] = 2;
    assert_eq!(ClientHello::parse(&records(&server, 100)), Err(ClientHelloError::NotTls));
    assert_eq!(ClientHello::parse(&[22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff]), Err(ClientHelloError::TooLong));
}

fn head(text: &str) -> Result<Option<RequestHead>, HeadError> {
    RequestHead::parse(text.as_bytes())
}

#[test]
fn request_heads_are_read() {
    let text =
        "CONNECT api.example.org:443 HTTP/1.1\r\nHost: api.example.org:443\r\nUser-Agent: x\r\n\r\nrest";
    let read = head(text).unwrap().unwrap();
    assert_eq!((read.host, read.port, read.target), (host("api.example.org"), 443, RequestTarget::Tunnel));
    assert_eq!((read.bytes, read.body), (text.len() - 4, BodyLength::Known(0)));
    let text = "POST http://Example.org:8080/a?b=c HTTP/1.1\r\nhost: example.ORG:8080\r\nContent-Length: 5\r\n\
        Proxy-Authorization: Basic x\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Other:  two \r\n\r\n";
    let read = head(text).unwrap().unwrap();
    assert_eq!((read.host, read.port), (host("example.org"), 8080));
    assert_eq!(read.target, RequestTarget::Plain { path: "/a?b=c".to_owned() });
    let names: Vec<&str> = read.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names, read.body), (vec!["Content-Length", "X-Other"], BodyLength::Known(5)));
    assert_eq!(read.headers[1].1, b"two");
    for (target, path) in
        [("http://a.example", "/"), ("http://a.example?x", "/?x"), ("HTTP://a.example:80/", "/")]
    {
        let read = head(&format!("GET {target} HTTP/1.1\r\nHost: a.example\r\n\r\n")).unwrap().unwrap();
        assert_eq!(read.target, RequestTarget::Plain { path: path.to_owned() });
    }
    assert!(head("GET http://a.example/ HTTP/1.0\r\n\r\n").unwrap().is_some());
    assert_eq!(head("GET http://a.example/ HTTP/1.1\r\nHost: a.exa"), Ok(None));
}

#[test]
fn what_could_be_read_in_two_ways_is_refused() {
    let with =
        |lines: &str| head(&format!("POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n"));
    for (lines, error) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", HeadError::Length),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", HeadError::Length),
        ("Content-Length: 5, 5\r\n", HeadError::Length),
        ("Content-Length: +5\r\n", HeadError::Length),
        ("Content-Length: 0x5\r\n", HeadError::Length),
        ("Content-Length: \r\n", HeadError::Length),
        ("Content-Length: 1000000000000000000000\r\n", HeadError::Length),
        ("Transfer-Encoding: gzip, chunked\r\n", HeadError::Length),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", HeadError::Length),
        ("Transfer-Encoding: xchunked\r\n", HeadError::Length),
        ("Connection: Content-Length\r\nContent-Length: 5\r\n", HeadError::Length),
        ("Transfer-Encoding : chunked\r\n", HeadError::Malformed),
        (" folded: x\r\n", HeadError::Malformed),
        ("X: a\r\n\tb\r\n", HeadError::Malformed),
        ("X: a\nHost: b.example\r\n", HeadError::Malformed),
        ("X: a\rb\r\n", HeadError::Malformed),
        ("X: a\0b\r\n", HeadError::Malformed),
        (": x\r\n", HeadError::Malformed),
        ("no colon\r\n", HeadError::Malformed),
        ("Host: a.example\r\n", HeadError::Host),
    ] {
        assert_eq!(with(lines), Err(error), "{lines:?}");
    }
    for (text, error) in [
        ("GET http://a.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", HeadError::Host),
        ("GET http://a.example/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n", HeadError::Host),
        ("GET http://a.example/ HTTP/1.1\r\n\r\n", HeadError::Host),
        ("GET http://a.example@b.example/ HTTP/1.1\r\nHost: b.example\r\n\r\n", HeadError::Host),
        ("GET http://a%2eexample/ HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Host),
        ("GET http://a.example:0/ HTTP/1.1\r\nHost: a.example:0\r\n\r\n", HeadError::Host),
        ("GET http://127.1/ HTTP/1.1\r\nHost: 127.1\r\n\r\n", HeadError::Host),
        ("GET /path HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Target),
        ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Target),
        ("GET ftp://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Target),
        ("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Target),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: b.example:443\r\n\r\n", HeadError::Host),
        ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\n", HeadError::Length),
        ("GET  http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Malformed),
        ("GET http://a.example/ x HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Malformed),
        ("GET http://a.example/ HTTP/2.0\r\nHost: a.example\r\n\r\n", HeadError::Malformed),
        ("G ET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", HeadError::Malformed),
        ("POST http://a.example/ HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HeadError::Length),
        ("\r\n\r\n", HeadError::Malformed),
    ] {
        assert_eq!(head(text), Err(error), "{text:?}");
    }
    let long = format!("GET http://a.example/{} HTTP/1.1\r\n", "x".repeat(70_000));
    assert_eq!(head(&long), Err(HeadError::TooLong));
    let many = format!("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\n{}\r\n", "X: y\r\n".repeat(200));
    assert_eq!(head(&many), Err(HeadError::TooLong));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// Whatever comes, the parsers answer, and wait for more only while little has come.
    #[test]
    fn first_bytes_never_upset_the_parsers(bytes in prop::collection::vec(any::<u8>(), 0..300), start in 0usize..4) {
        let prefix: &[u8] = [&b""[..], b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03", b"\x16\x03\x01", b"GET http://"][start];
        let bytes = [prefix, &bytes].concat();
        let _ = ClientHello::parse(&bytes);
        let _ = RequestHead::parse(&bytes);
    }

    /// One changed byte of a sound message never upsets the parser either, and never gives two names.
    #[test]
    fn damaged_hellos_are_answered(at in 0usize..120, byte in any::<u8>(), size in 1usize..120) {
        let mut message = hello(&[(10, vec![0, 2, 0, 29]), name("api.example.org"), (16, vec![0, 3, 2, b'h', b'2'])]);
        let at = at % message.len();
        message[at] = byte;
        let _ = ClientHello::parse(&records(&message, size));
    }
}

#[test]
fn waiting_for_a_client_hello_has_an_end() {
    let mut message = hello(&[(21, vec![0; 60_000])]);
    message.truncate(60_000);
    let mut bytes = records(&message, 1);
    bytes.truncate(CLIENT_HELLO_BYTES_MAX);
    assert_eq!(ClientHello::parse(&bytes[..CLIENT_HELLO_BYTES_MAX - 1]), Ok(None));
    assert_eq!(ClientHello::parse(&bytes), Err(ClientHelloError::TooLong));
}

#[test]
fn the_nodes_layer_leaves_names_to_others_and_keeps_private_addresses_shut() {
    let list = |texts: &[&str]| texts.iter().map(|text| Destination::from(*text)).collect::<Vec<_>>();
    let node =
        EgressRules::of_node(&[], &list(&["bad.example.org"]), &list(&["10.1.0.0/16:8443", "127.0.0.0/8"]));
    let node = node.unwrap();
    assert!(node.is_open() && node.permits_name(&host("db.example.org"), 5432).unwrap().raw);
    let refused = node.permits_name(&host("bad.example.org"), 443).unwrap_err();
    assert_eq!(refused.rule, "node/denylist:0");
    for (address, port, permitted) in [
        ("93.184.215.14", 5432, true),
        ("10.1.2.3", 8443, true),
        ("10.1.2.3", 443, false),
        ("10.2.0.1", 8443, false),
        ("127.0.0.1", 1, true),
        ("169.254.169.254", 80, false),
        ("::ffff:169.254.169.254", 80, false),
        ("fd00::1", 80, false),
    ] {
        let answer = node.permits_addresses(&host("a.example.org"), &[ip(address)], port, &[]);
        assert_eq!(answer.is_ok(), permitted, "{address}:{port} {answer:?}");
        if let Err(denial) = answer {
            assert_eq!(denial.rule, "node/address");
            assert!(denial.remedy.contains("spec.governance.network.private"), "{}", denial.remedy);
        }
    }
    let narrowed = EgressRules::of_node(&list(&["*.example.org"]), &[], &[]).unwrap();
    assert!(narrowed.permits_name(&host("a.example.org"), 443).is_ok());
    assert_eq!(narrowed.permits_name(&host("example.net"), 443).unwrap_err().rule, "node/allowlist");
    assert!(EgressRules::of_node(&[], &[], &list(&["intranet.example.org"])).is_err(), "a name is no range");
}

#[test]
fn the_entries_that_decide_are_named_by_their_places() {
    let entries = ["a.example.org", "*.example.org:8443", "10.0.0.0/8:8443"];
    let allow = rules(EgressMode::Allow, &entries, &[]);
    assert_eq!(allow.matching(&host("a.example.org"), 443), [0]);
    assert_eq!(allow.matching(&host("a.example.org"), 8443), [1]);
    assert_eq!(allow.matching(&host("10.1.2.3"), 8443), [2]);
    assert!(allow.matching(&host("10.1.2.3"), 443).is_empty());
    let deny = rules(EgressMode::Deny, &[], &["a.example.org", "10.0.0.0/8:80"]);
    assert_eq!(deny.matching(&host("a.example.org"), 5432), [0]);
    assert!(deny.matching(&host("10.1.2.3"), 443).is_empty());
    assert!(rules(EgressMode::None, &[], &[]).matching(&host("a.example.org"), 443).is_empty());
}
