//! Chain ids, as the OCI image specification (config.md, "Layer ChainID") defines them.
//!
//! ```text
//!   ChainID(L0)       = DiffID(L0)
//!   ChainID(L0 … Ln)  = SHA-256( ChainID(L0 … Ln-1) + " " + DiffID(Ln) )
//! ```

use dhow_spec::Digest;

/// The chain id of a layer: of its uncompressed archive's digest and of the chain id below it.
pub fn chain_id(parent: Option<&Digest>, diff_id: &Digest) -> Digest {
    match parent {
        None => *diff_id,
        Some(parent) => Digest::of(format!("{parent} {diff_id}").as_bytes()),
    }
}

/// The chain ids of all layers of an image, bottom first, from the `diff_ids` of its configuration.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chains: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        chains.push(chain_id(chains.last(), diff_id));
    }
    chains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_layer_is_its_own_chain() {
        let [a, b] = [Digest::of(b"a"), Digest::of(b"b")];
        let chains = chain_ids(&[a, b]);
        assert_eq!(chains[0], a);
        assert_eq!(chains[1], Digest::of(format!("{a} {b}").as_bytes()));
    }
}
