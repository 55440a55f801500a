//! `pip install` through the proxy, from the index this machine uses.

use std::net::{IpAddr, ToSocketAddrs};
use std::process::Command;

use aegis_e2e::Node;

use super::fetch::{config, fetcher, fetching};
use super::{connecting, is_root, python, running};
use crate::observe::{can_run, events, follow, tool_results};

/// A small package without dependencies.
const PACKAGE: &str = "six";
/// Prints the index's address, then each host that its page of a package links to, as pip on this machine sees them.
const LOOK: &str = "import configparser, re, subprocess, sys, urllib.parse, urllib.request
run = subprocess.run([sys.executable, '-m', 'pip', 'config', 'get', 'global.index-url'], capture_output=True, text=True)
from pip._internal.models.index import PyPI
index = (run.stdout.strip() or PyPI.simple_url).rstrip('/')
page = urllib.request.urlopen(index + '/' + sys.argv[1] + '/', timeout=20).read().decode()
links = [urllib.parse.urljoin(index + '/' + sys.argv[1] + '/', link) for link in re.findall(r'href=\"([^\"]+)\"', page)]
print(index)
for host in sorted({urllib.parse.urlsplit(link).netloc for link in links + [index]}): print(host)";

/// The index and the hosts it takes; says why where there is none.
fn index(test: &str) -> Option<(String, Vec<String>)> {
    let looked = Command::new("/usr/bin/python3").args(["-c", LOOK, PACKAGE]).output();
    let output = match looked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(_) => {
            eprintln!("SKIP {test}: no package index answers here, or pip is not installed");
            return None;
        }
        Err(error) => {
            eprintln!("SKIP {test}: /usr/bin/python3 cannot be run: {error}");
            return None;
        }
    };
    let mut lines = output.lines().map(str::to_owned);
    let index = lines.next().expect("the index that was just asked");
    if !index.starts_with("https://") {
        eprintln!("SKIP {test}: the package index is not reached by https");
        return None;
    }
    Some((index, lines.collect()))
}

/// The addresses a host stands for, as ranges of one.
fn ranges(host: &str) -> Vec<String> {
    let with_port = if host.contains(':') { host.to_owned() } else { format!("{host}:443") };
    let addresses = with_port.to_socket_addrs().expect("the host that was just asked");
    let range = |address: IpAddr| match address {
        IpAddr::V4(address) => format!("{address}/32"),
        IpAddr::V6(address) => format!("{address}/128"),
    };
    addresses.map(|address| range(address.ip())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pip_installs_from_the_permitted_index() {
    let test = "pip_installs_from_the_permitted_index";
    if !is_root(test) {
        return;
    }
    let Some((index, hosts)) = index(test) else { return };
    let mut addresses: Vec<String> = hosts.iter().flat_map(|host| ranges(host)).collect();
    addresses.sort();
    addresses.dedup();
    let pip = ["-m", "pip", "install", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"];
    let to = ["--target", "/workspace/packages", "--index-url", &index, PACKAGE];
    let mut install = vec!["python3".to_owned()];
    install.extend(pip.iter().chain(&to).map(|argument| (*argument).to_owned()));
    let import = format!(
        "import sys; sys.path.insert(0, '/workspace/packages'); import {PACKAGE}; print('imported', {PACKAGE}.__file__)"
    );
    let list = serde_json::to_string(&addresses).unwrap();
    let node = Node::with(running(vec![install, python(&import, &[])]))
        .config(&format!("  governance:\n    network: {{private: {list}}}\n"))
        .start()
        .await;
    let manifest = connecting("installing", &[hosts, addresses].concat());
    if !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node);
    assert!(said[1].contains("imported /workspace/packages"), "{said:?}");
    let ended = events(&node, "action.completed");
    assert!(ended.iter().any(|event| event.to_string().contains("\"bytes_received\"")), "{ended:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_index_is_fetched_over_tls() {
    let test = "a_page_of_the_index_is_fetched_over_tls";
    if !is_root(test) {
        return;
    }
    let Some((index, hosts)) = index(test) else { return };
    let addresses: Vec<String> = hosts.iter().flat_map(|host| ranges(host)).collect();
    let page = format!("{index}/{PACKAGE}/");
    let node = Node::with(fetching(&[page])).config(&config(&hosts, &addresses)).start().await;
    let manifest = fetcher("reading", &[hosts, addresses].concat());
    if !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node).remove(0);
    assert!(said.contains("status 200") && said.contains(&format!("{PACKAGE}-1")), "{said}");
}
