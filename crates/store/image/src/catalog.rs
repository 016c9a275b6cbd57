//! Which images there are and what they are called: the in-memory index, and the rules of `rmi`.
//!
//! Pure: values in, values out. [`Images`](crate::Images) keeps it equal to what the store has, and
//! nothing else looks at the store for a name. So looking up an image costs no I/O, which the start path
//! of a container counts on.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use dhow_spec::{Digest, Reference};

use crate::error::ImageError;
use crate::leases::Item;
use crate::record::Record;
use crate::{Image, ImageConfiguration, ImageUser, Layer, Removed};

/// All images of a store.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    entries: BTreeMap<Digest, Entry>,
    /// Tags and digest references; none has both a tag and a digest.
    references: BTreeMap<Reference, Digest>,
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) record: Record,
    pub(crate) config: Arc<ImageConfiguration>,
}

/// What a removal comes to: references and perhaps the image.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Removal {
    pub(crate) references: Vec<Reference>,
    pub(crate) image: Option<Digest>,
}

impl Catalog {
    /// Adds or replaces an image.
    pub(crate) fn insert(&mut self, id: Digest, entry: Entry) {
        self.entries.insert(id, entry);
    }

    /// Lets `reference` point at `id`.
    pub(crate) fn refer(&mut self, reference: Reference, id: Digest) {
        self.references.insert(reference, id);
    }

    /// Applies a removal.
    pub(crate) fn apply(&mut self, removal: &Removal) -> Option<Entry> {
        for reference in &removal.references {
            self.references.remove(reference);
        }
        removal.image.and_then(|id| self.entries.remove(&id))
    }

    /// Which image a name means: a reference, an id, or the first digits of one. References win over id
    /// prefixes, as with Docker.
    pub(crate) fn resolve(&self, name: &str) -> Result<Digest, ImageError> {
        let not_found = || ImageError::NotFound(name.to_owned());
        if let Ok(id) = name.parse::<Digest>() {
            return self.entries.contains_key(&id).then_some(id).ok_or_else(not_found);
        }
        if let Some(id) = self.by_reference(name) {
            return Ok(id);
        }
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if hex.is_empty() || hex.len() > 64 || !hex.bytes().all(is_hex) {
            return Err(not_found());
        }
        let mut hits = self.entries.keys().filter(|id| id.hex().starts_with(hex));
        match (hits.next(), hits.count()) {
            (None, _) => Err(not_found()),
            (Some(id), 0) => Ok(*id),
            (_, more) => Err(ImageError::Ambiguous { prefix: hex.to_owned(), count: more + 1 }),
        }
    }

    /// The image that `reference` points at. A digest decides when there is one; it may be that of the
    /// manifest or that of the image itself.
    pub(crate) fn target(&self, reference: &Reference) -> Option<Digest> {
        match reference.digest() {
            None => self.references.get(&reference.clone().with_default_tag()).copied(),
            Some(digest) => {
                self.references.get(&reference.with_digest(*digest)).copied().or_else(|| {
                    let has_name = |id: &Digest| {
                        self.references_of(id)
                            .iter()
                            .any(|r| r.repository() == reference.repository())
                    };
                    Some(*digest).filter(|id| self.entries.contains_key(id) && has_name(id))
                })
            }
        }
    }

    /// The image with this id, as the outside sees it.
    pub(crate) fn image(&self, id: &Digest) -> Option<Image> {
        let entry = self.entries.get(id)?;
        let all = self.references_of(id);
        let familiar_digests =
            all.iter().filter(|r| r.digest().is_some()).map(Reference::familiar).collect();
        Some(Image {
            id: *id,
            references: all.into_iter().filter(|r| r.digest().is_none()).collect(),
            repo_digests: familiar_digests,
            config: Arc::clone(&entry.config),
            layers: entry.record.layers.clone().into(),
            size_bytes: entry.record.layers.iter().map(|layer| layer.size_bytes).sum(),
            created_seconds: entry.record.created_seconds,
            architecture: entry.config.architecture.clone(),
            os: entry.config.os.clone(),
            manifest: entry.record.manifest,
        })
    }

    /// The record of the image with this id.
    pub(crate) fn record(&self, id: &Digest) -> Option<&Record> {
        self.entries.get(id).map(|entry| &entry.record)
    }

    /// Every id.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &Digest> {
        self.entries.keys()
    }

    /// Everything that some image needs.
    pub(crate) fn needed(&self) -> HashSet<Item> {
        self.entries.iter().flat_map(|(id, entry)| entry.record.items(id)).collect()
    }

    /// What some image knows of the layer with this chain id.
    pub(crate) fn layer(&self, chain_id: &Digest) -> Option<&Layer> {
        let mut layers = self.entries.values().flat_map(|entry| &entry.record.layers);
        layers.find(|layer| layer.chain_id == *chain_id)
    }

    /// Every tag of a repository (`docker.io/library/alpine`) and its image, sorted.
    pub(crate) fn tags_of(&self, repository: &str) -> Vec<(Reference, Digest)> {
        let mine = self.references.iter().filter(|(reference, _)| {
            reference.digest().is_none() && reference.repository() == repository
        });
        mine.map(|(reference, id)| (reference.clone(), *id)).collect()
    }

    /// Other repositories of the registry `target` is at that are known to have had a layer with this
    /// tar: images with it were pulled from or pushed to them.
    pub(crate) fn sources(&self, diff_id: &Digest, target: &Reference) -> BTreeSet<String> {
        let there = self.references.iter().filter(|(reference, _)| {
            reference.digest().is_some()
                && reference.domain() == target.domain()
                && reference.path() != target.path()
        });
        let has_layer = |id: &Digest| {
            let mut layers = self.record(id).into_iter().flat_map(|record| &record.layers);
            layers.any(|layer| layer.diff_id == *diff_id)
        };
        there.filter(|(_, id)| has_layer(id)).map(|(r, _)| r.path().to_owned()).collect()
    }

    /// What removing `name` would do, by Docker's rules:
    ///
    /// - by reference: the reference goes, and with the last one the image; a container that uses the
    ///   image prevents the last reference from going, unless forced, and then keeps the image;
    /// - by id: all references go if they are of one repository (or forced), and then the image; a
    ///   running container prevents it always, a stopped one unless forced, and then keeps the image.
    pub(crate) fn plan_removal(
        &self,
        name: &str,
        force: bool,
        users: &[ImageUser],
    ) -> Result<Removal, ImageError> {
        let id = self.resolve(name)?;
        let all = self.references_of(&id);
        match self.by_reference_exact(name).filter(|_| self.by_reference(name) == Some(id)) {
            Some(reference) => plan_untag(id, &all, reference, force, users),
            None => plan_delete(id, all, force, users),
        }
    }

    /// All references to `id`, sorted.
    pub(crate) fn references_of(&self, id: &Digest) -> Vec<Reference> {
        let mine = self.references.iter().filter(|(_, target)| *target == id);
        mine.map(|(reference, _)| reference.clone()).collect()
    }

    fn by_reference(&self, name: &str) -> Option<Digest> {
        name.parse().ok().and_then(|reference| self.target(&reference))
    }

    /// The stored reference that `name` stands for, if there is one.
    fn by_reference_exact(&self, name: &str) -> Option<Reference> {
        let reference: Reference = name.parse().ok()?;
        let stored = match reference.digest() {
            Some(digest) => reference.with_digest(*digest),
            None => reference.with_default_tag(),
        };
        self.references.contains_key(&stored).then_some(stored)
    }
}

fn is_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

/// Whether there is at most one tag, and everything is of one repository: then removing by id is meant
/// to take it all.
fn is_single(references: &[Reference]) -> bool {
    let tags = references.iter().filter(|r| r.digest().is_none()).count();
    let repositories: BTreeSet<_> = references.iter().map(Reference::repository).collect();
    tags <= 1 && repositories.len() <= 1
}

fn plan_untag(
    id: Digest,
    all: &[Reference],
    reference: Reference,
    force: bool,
    users: &[ImageUser],
) -> Result<Removal, ImageError> {
    if let Some(user) = users.first().filter(|_| !force && is_single(all)) {
        return Err(ImageError::ReferenceInUse {
            reference: reference.familiar(),
            container: user.container.clone(),
            image: id.short(),
        });
    }
    let mut gone = vec![reference.clone()];
    let repository = reference.repository();
    let same = |r: &&Reference| r.repository() == repository && **r != reference;
    let is_last_tag = !all.iter().filter(same).any(|r| r.digest().is_none());
    if reference.digest().is_none() && is_last_tag {
        gone.extend(all.iter().filter(same).cloned());
    }
    let is_last = all.iter().all(|r| gone.contains(r));
    // A container keeps its image, without a name.
    let image = (is_last && users.is_empty()).then_some(id);
    Ok(Removal { references: gone, image })
}

fn plan_delete(
    id: Digest,
    all: Vec<Reference>,
    force: bool,
    users: &[ImageUser],
) -> Result<Removal, ImageError> {
    let conflict = |force, why| ImageError::InUse { image: id.short(), force, why };
    if let Some(user) = users.iter().find(|user| user.running) {
        let why = format!("image is being used by running container {}", user.container);
        return Err(conflict("cannot be forced", why));
    }
    if !force {
        if !is_single(&all) {
            let why = "image is referenced in multiple repositories".to_owned();
            return Err(conflict("must be forced", why));
        }
        if let Some(user) = users.first() {
            let why = format!("image is being used by stopped container {}", user.container);
            return Err(conflict("must be forced", why));
        }
    }
    if let Some(user) = users.first() {
        if all.is_empty() {
            let why = format!("image is being used by stopped container {}", user.container);
            return Err(conflict("cannot be forced", why));
        }
        // The container keeps its layers: without a name, until it is gone too.
        return Ok(Removal { references: all, image: None });
    }
    Ok(Removal { references: all, image: Some(id) })
}

impl Removal {
    /// Docker's lines for it; `layers` are those that went with the image, topmost first.
    pub(crate) fn lines(&self, layers: impl IntoIterator<Item = Digest>) -> Vec<Removed> {
        let untagged = self.references.iter().map(|r| Removed::Untagged(r.familiar()));
        let deleted = self.image.into_iter().chain(layers).map(Removed::Deleted);
        untagged.chain(deleted).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(seed: &str) -> Digest {
        Digest::of(seed.as_bytes())
    }

    fn reference(text: &str) -> Reference {
        text.parse().unwrap()
    }

    fn catalog() -> Catalog {
        let mut catalog = Catalog::default();
        for (seed, names) in [("a", &["x:1", "x:2"][..]), ("b", &["y:latest"]), ("c", &[])] {
            let config = Arc::new(ImageConfiguration::scratch());
            catalog.insert(id(seed), Entry { record: Record::default(), config });
            for name in names {
                catalog.refer(reference(name), id(seed));
            }
        }
        catalog.refer(reference("y").with_digest(id("manifest")), id("b"));
        catalog
    }

    fn user(running: bool) -> [ImageUser; 1] {
        [ImageUser { container: "0123456789ab".to_owned(), running }]
    }

    #[test]
    fn resolves_names_digests_and_prefixes() {
        let catalog = catalog();
        for name in ["y", "docker.io/library/y:latest", &id("b").to_string(), &id("b").hex()[..6]] {
            assert_eq!(catalog.resolve(name).unwrap(), id("b"), "{name}");
        }
        assert_eq!(catalog.resolve(&format!("y@{}", id("manifest"))).unwrap(), id("b"));
        assert_eq!(catalog.resolve(&format!("y@{}", id("b"))).unwrap(), id("b"));
        for name in ["x", "z", "", "zz!", &format!("z@{}", id("b"))] {
            let error = catalog.resolve(name).unwrap_err();
            assert_eq!(error.to_string(), format!("No such image: {name}"));
        }
    }

    #[test]
    fn an_ambiguous_prefix_is_an_error() {
        let mut catalog = Catalog::default();
        for number in 0..300 {
            let config = Arc::new(ImageConfiguration::scratch());
            catalog.insert(id(&number.to_string()), Entry { record: Record::default(), config });
        }
        let prefix = &id("0").hex()[..1];
        assert!(matches!(catalog.resolve(prefix), Err(ImageError::Ambiguous { .. })));
    }

    #[test]
    fn untagging_one_of_two_keeps_the_image() {
        let removal = catalog().plan_removal("x:1", false, &user(true)).unwrap();
        assert_eq!(removal.references, [reference("x:1")]);
        assert_eq!(removal.image, None);
    }

    #[test]
    fn the_last_tag_takes_digests_and_image_along() {
        let removal = catalog().plan_removal("y", false, &[]).unwrap();
        assert_eq!(removal.references.len(), 2);
        assert_eq!(removal.image, Some(id("b")));
    }

    #[test]
    fn the_last_tag_of_a_used_image_needs_force_and_keeps_the_image() {
        let catalog = catalog();
        let error = catalog.plan_removal("y", false, &user(false)).unwrap_err().to_string();
        assert!(error.contains("(must force) - container 0123456789ab is using"), "{error}");
        let removal = catalog.plan_removal("y", true, &user(true)).unwrap();
        assert_eq!((removal.references.len(), removal.image), (2, None));
    }

    #[test]
    fn by_id_several_tags_need_force() {
        let catalog = catalog();
        let name = id("a").to_string();
        let error = catalog.plan_removal(&name, false, &[]).unwrap_err().to_string();
        assert!(error.contains("image is referenced in multiple repositories"), "{error}");
        let removal = catalog.plan_removal(&name, true, &[]).unwrap();
        assert_eq!((removal.references.len(), removal.image), (2, Some(id("a"))));
    }

    #[test]
    fn by_id_a_running_container_cannot_be_forced() {
        let catalog = catalog();
        let name = id("c").hex();
        let error = catalog.plan_removal(&name, true, &user(true)).unwrap_err().to_string();
        assert!(error.contains("(cannot be forced) - image is being used by running"), "{error}");
        let error = catalog.plan_removal(&name, false, &user(false)).unwrap_err().to_string();
        assert!(error.contains("(must be forced) - image is being used by stopped"), "{error}");
        let error = catalog.plan_removal(&name, true, &user(false)).unwrap_err().to_string();
        assert!(error.contains("(cannot be forced)"), "{error}");
        let removal = catalog.plan_removal(&id("b").hex(), true, &user(false)).unwrap();
        assert_eq!((removal.references.len(), removal.image), (2, None));
    }
}
