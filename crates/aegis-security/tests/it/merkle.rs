//! The tree against the reference data of Certificate Transparency, and its properties.

use aegis_core::Sha256;
use aegis_security::merkle::{
    Frontier, Node, ProofError, Tile, consistency_proof, empty_root, inclusion_nodes, inclusion_proof,
    leaf_hash, leaf_lookup, root_of, tiles_between, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;

/// Leaves and roots of the certificate-transparency reference tests (`merkletree/merkle_tree_test.cc`, also
/// `transparency-dev/merkle`, `testonly/constants.go`).
fn reference_leaves() -> Vec<Sha256> {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\x00",
        b"\x10",
        b"\x20\x21",
        b"\x30\x31",
        b"\x40\x41\x42\x43",
        b"\x50\x51\x52\x53\x54\x55\x56\x57",
        b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
    ];
    inputs.iter().map(|input| leaf_hash(input)).collect()
}

const REFERENCE_ROOTS: [&str; 9] = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

fn hashes(hex: &[&str]) -> Vec<Sha256> {
    hex.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn roots_are_those_of_the_reference() {
    let leaves = reference_leaves();
    let mut frontier = Frontier::new();
    assert_eq!(frontier.root().to_string(), REFERENCE_ROOTS[0]);
    for (leaf, root) in leaves.iter().zip(&REFERENCE_ROOTS[1..]) {
        frontier.push(*leaf);
        assert_eq!(frontier.root().to_string(), *root);
    }
}

#[test]
fn inclusion_proofs_are_those_of_the_reference() {
    let leaves = reference_leaves();
    for (index, size, expected) in [
        (0, 1, vec![]),
        (
            0,
            8,
            vec![
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            5,
            8,
            vec![
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (2, 3, vec!["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
        (
            1,
            5,
            vec![
                "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
    ] {
        let proof = inclusion_proof(index, size, leaf_lookup(&leaves)).unwrap();
        assert_eq!(proof, hashes(&expected), "leaf {index} of {size}");
        let root = REFERENCE_ROOTS[usize::try_from(size).unwrap()].parse().unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
    }
}

#[test]
fn consistency_proofs_are_those_of_the_reference() {
    let leaves = reference_leaves();
    for (old, new, expected) in [
        (1, 1, vec![]),
        (
            1,
            8,
            vec![
                "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
            ],
        ),
        (
            6,
            8,
            vec![
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
        (
            2,
            5,
            vec![
                "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
                "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            ],
        ),
        (
            6,
            7,
            vec![
                "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
                "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f",
                "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            ],
        ),
    ] {
        let proof = consistency_proof(old, new, leaf_lookup(&leaves)).unwrap();
        assert_eq!(proof, hashes(&expected), "{old} to {new}");
    }
}

fn leaves(count: u64) -> Vec<Sha256> {
    (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

fn prefix_roots(leaves: &[Sha256]) -> Vec<Sha256> {
    let mut frontier = Frontier::new();
    let mut roots = vec![frontier.root()];
    for leaf in leaves {
        frontier.push(*leaf);
        roots.push(frontier.root());
    }
    roots
}

fn flipped(hash: &Sha256, bit: usize) -> Sha256 {
    let mut bytes = *hash.as_bytes();
    bytes[bit / 8 % 32] ^= 1 << (bit % 8);
    Sha256::from_bytes(bytes)
}

#[test]
fn every_leaf_of_every_small_tree_is_proved_and_nothing_else() {
    const SIZE: u64 = 40;
    let leaves = leaves(SIZE);
    let roots = prefix_roots(&leaves);
    for size in 1..=SIZE {
        let root = roots[usize::try_from(size).unwrap()];
        for index in 0..size {
            let leaf = leaves[usize::try_from(index).unwrap()];
            let proof = inclusion_proof(index, size, leaf_lookup(&leaves)).unwrap();
            assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
            for wrong_index in (0..size + 2).filter(|other| *other != index) {
                assert!(verify_inclusion(&leaf, wrong_index, size, &proof, &root).is_err());
            }
            let longer = [proof.clone(), vec![root]].concat();
            assert_eq!(verify_inclusion(&leaf, index, size, &longer, &root), Err(ProofError::Length));
            if let Some((_, shorter)) = proof.split_last() {
                assert!(verify_inclusion(&leaf, index, size, shorter, &root).is_err());
            }
        }
    }
}

#[test]
fn every_prefix_of_every_small_tree_is_consistent_and_nothing_else() {
    const SIZE: u64 = 40;
    let leaves = leaves(SIZE);
    let roots = prefix_roots(&leaves);
    let root = |size: u64| &roots[usize::try_from(size).unwrap()];
    for new in 0..=SIZE {
        for old in 0..=new {
            let proof = consistency_proof(old, new, leaf_lookup(&leaves)).unwrap();
            assert_eq!(verify_consistency(old, root(old), new, root(new), &proof), Ok(()), "{old} to {new}");
            if old == new {
                continue;
            }
            assert!(verify_consistency(old, root(new), new, root(new), &proof).is_err());
            assert!(verify_consistency(new, root(new), old, root(old), &proof).is_err());
            assert!(verify_consistency(old + 1, root(old), new, root(new), &proof).is_err());
            let longer = [proof.clone(), vec![*root(new)]].concat();
            assert!(verify_consistency(old, root(old), new, root(new), &longer).is_err());
            for at in 0..proof.len() {
                let mut wrong = proof.clone();
                wrong[at] = flipped(&wrong[at], at);
                assert!(verify_consistency(old, root(old), new, root(new), &wrong).is_err());
            }
        }
    }
    assert_eq!(verify_consistency(0, &leaves[0], 1, root(1), &[]), Err(ProofError::Root));
}

#[test]
fn positions_outside_the_tree_are_refused() {
    let leaves = leaves(4);
    let root = root_of(&leaves);
    assert!(inclusion_proof(4, 4, leaf_lookup(&leaves)).is_err());
    assert!(inclusion_proof(0, 0, leaf_lookup(&leaves)).is_err());
    assert!(inclusion_proof(0, u64::MAX, leaf_lookup(&leaves)).is_err());
    assert!(consistency_proof(5, 4, leaf_lookup(&leaves)).is_err());
    assert!(verify_inclusion(&leaves[0], u64::MAX, u64::MAX, &[], &root).is_err());
    assert!(verify_consistency(1, &root, u64::MAX, &root, &[]).is_err());
    let missing = inclusion_proof(0, 8, leaf_lookup(&leaves));
    assert_eq!(missing, Err(ProofError::Missing(Node { level: 2, index: 1 })));
}

#[test]
fn tiles_alone_are_enough_for_proofs() {
    const SIZE: u64 = 70_000;
    let mut frontier = Frontier::new();
    let mut completed = std::collections::HashMap::new();
    let leaves = leaves(SIZE);
    for leaf in &leaves {
        frontier.push_with(*leaf, |node, hash| {
            completed.insert(node, hash);
        });
    }
    let stored: std::collections::HashMap<(u32, u64), Vec<Sha256>> = tiles_between(0, SIZE)
        .into_iter()
        .map(|tile| ((tile.level, tile.index), tile.nodes().map(|node| completed[&node]).collect()))
        .collect();
    let from_tiles = |node: Node| {
        let (tile, covered) = Tile::holding(node);
        let hashes = stored.get(&(tile.level, tile.index))?;
        hashes.get(usize::try_from(covered.start).ok()?..usize::try_from(covered.end).ok()?).map(root_of)
    };
    for index in [0, 1, 255, 256, 65_535, 65_536, 69_999] {
        let proof = inclusion_proof(index, SIZE, from_tiles).unwrap();
        let leaf = leaves[usize::try_from(index).unwrap()];
        assert_eq!(verify_inclusion(&leaf, index, SIZE, &proof, &frontier.root()), Ok(()));
    }
    let steps = inclusion_nodes(0, SIZE).unwrap();
    assert_eq!(steps.len(), 17, "one step for each level");
}

proptest! {
    #[test]
    fn a_frontier_survives_storage_and_grows_alike(count in 0u64..300, more in 0u64..40) {
        let leaves = leaves(count + more);
        let (before, after) = leaves.split_at(usize::try_from(count).unwrap());
        let mut whole = Frontier::new();
        before.iter().for_each(|leaf| whole.push(*leaf));
        let mut stored = Frontier::from_bytes(&whole.to_bytes()).unwrap();
        prop_assert_eq!(&stored, &whole);
        for leaf in after {
            whole.push(*leaf);
            stored.push(*leaf);
        }
        prop_assert_eq!(stored.root(), root_of(&leaves));
        prop_assert_eq!(stored.size(), count + more);
    }

    #[test]
    fn any_flipped_bit_breaks_an_inclusion_proof(size in 2u64..500, place in any::<u64>(), bit in 0usize..256) {
        let leaves = leaves(size);
        let root = root_of(&leaves);
        let index = place % size;
        let leaf = leaves[usize::try_from(index).unwrap()];
        let proof = inclusion_proof(index, size, leaf_lookup(&leaves)).unwrap();
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &root), Ok(()));
        prop_assert_eq!(verify_inclusion(&flipped(&leaf, bit), index, size, &proof, &root), Err(ProofError::Root));
        prop_assert_eq!(verify_inclusion(&leaf, index, size, &proof, &flipped(&root, bit)), Err(ProofError::Root));
        for at in 0..proof.len() {
            let mut wrong = proof.clone();
            wrong[at] = flipped(&wrong[at], bit);
            prop_assert_eq!(verify_inclusion(&leaf, index, size, &wrong, &root), Err(ProofError::Root));
        }
    }

    #[test]
    fn bytes_that_are_no_frontier_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
        match Frontier::from_bytes(&bytes) {
            Ok(frontier) => prop_assert_eq!(frontier.to_bytes(), bytes),
            Err(_) => prop_assert_ne!(bytes, Frontier::new().to_bytes()),
        }
    }
}

#[test]
fn a_frontier_of_the_wrong_length_is_refused() {
    let mut frontier = Frontier::new();
    leaves(5).into_iter().for_each(|leaf| frontier.push(leaf));
    let bytes = frontier.to_bytes();
    assert_eq!(bytes.len(), 8 + 2 * 32);
    for wrong in [&bytes[..7], &bytes[..40], &bytes[..71], &[&bytes[..], &[0]].concat()] {
        assert!(Frontier::from_bytes(wrong).is_err());
    }
    assert!(Frontier::from_bytes(&[0xff; 8 + 64 * 32]).is_err());
    assert_eq!(Frontier::from_bytes(&[0; 8]).unwrap().root(), empty_root());
}
