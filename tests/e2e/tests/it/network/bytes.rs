//! How much one execution may move.

use aegis_e2e::Node;

use super::fetch::{config, fetcher, fetching};
use super::server::Server;
use super::{is_root, loopback};
use crate::observe::{can_run, events, follow, tool_results};

#[tokio::test(flavor = "multi_thread")]
async fn the_connections_of_a_run_move_no_more_bytes_than_the_node_says() {
    let test = "the_connections_of_a_run_move_no_more_bytes_than_the_node_says";
    let server = Server::start().await;
    let urls = vec![format!("http://localhost:{}/ok", server.port); 12];
    let ranges = loopback(server.port);
    let config = config(&["localhost".to_owned()], &ranges)
        .replace("network: {private", "network: {bytes_per_execution: 1Ki, private");
    let node = Node::with(fetching(&urls)).config(&config).start().await;
    let manifest = fetcher("moving", &[vec![format!("localhost:{}", server.port)], ranges].concat());
    if !is_root(test) || !can_run(&node, &manifest, test) {
        return;
    }
    follow(&node, &manifest).ok();
    let said = tool_results(&node);
    assert!(said[0].contains("status 200"), "{said:#?}");
    assert!(!said[11].contains("status 200"), "{said:#?}");
    let ended = events(&node, "action.completed").iter().map(ToString::to_string).collect::<String>();
    assert!(ended.contains("\"limit\""), "{ended}");
    let moved: usize = server.seen().iter().map(Vec::len).sum();
    assert!(moved <= 1 << 10, "{moved} bytes reached the far side");
}
