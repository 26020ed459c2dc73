//! Compressing stored bodies when they are asked for again, off the request path: no
//! client waits for it.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::Semaphore;

use crate::answer::head::coded_etag;
use crate::metrics::{Compression, Metrics};
use crate::page::{Body, Coding, PageKey, Representation};
use crate::store::Store;

/// Bodies compressed at once: the pages' clients have the processors first.
const AT_ONCE: usize = 1;
/// Bytes that may wait to be compressed. What waits is held in memory, stored or
/// not; what finds no room is tried again at the next hit.
const MAX_WAITING: usize = 8 << 20;
/// A coding that saves less than one part in this many is not kept.
const WORTH: usize = 16;

/// Compresses what is stored.
pub(super) struct Compressor {
    store: Arc<Store>,
    places: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

impl Compressor {
    pub(super) fn new(store: Arc<Store>) -> Compressor {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        Compressor { store, places, waiting: Arc::default() }
    }

    /// Makes the coded bodies of a stored representation and attaches them,
    /// unless it has been replaced by then.
    pub(super) fn compress(
        &self,
        metrics: &Arc<Metrics>,
        key: &PageKey,
        rep: &Arc<Representation>,
    ) {
        if !rep.compress.take() {
            return;
        }
        let size = rep.identity().bytes.len();
        let waiting = Waiting::new(&self.waiting, size);
        // One that is larger than the bound may wait alone.
        if waiting.before > 0 && waiting.before + size > MAX_WAITING {
            rep.compress.put_off();
            return;
        }
        let (store, places) = (Arc::clone(&self.store), Arc::clone(&self.places));
        let (metrics, key, rep) = (Arc::clone(metrics), key.clone(), Arc::clone(rep));
        tokio::spawn(async move {
            let Ok(_place) = places.acquire_owned().await else { return };
            let identity = rep.identity().clone();
            let made = tokio::task::spawn_blocking(move || encode_all(&identity)).await;
            drop(waiting);
            let Ok(made) = made else { return };
            for body in &made[1..] {
                let coding = match body.coding {
                    Coding::Brotli => Compression::Brotli,
                    Coding::Zstd => Compression::Zstd,
                    _ => Compression::Gzip,
                };
                metrics.compression(coding, made[0].bytes.len() as u64, body.bytes.len() as u64);
            }
            if made.len() > 1 {
                store.replace_bodies(&key, &rep, made.into()).await;
            }
        });
    }
}

/// Bytes that wait, until it is dropped.
struct Waiting {
    all: Arc<AtomicUsize>,
    size: usize,
    before: usize,
}

impl Waiting {
    fn new(all: &Arc<AtomicUsize>, size: usize) -> Waiting {
        Waiting { before: all.fetch_add(size, Ordering::Relaxed), all: Arc::clone(all), size }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.all.fetch_sub(self.size, Ordering::Relaxed);
    }
}

/// The identity body and every coding of it that is worth its bytes.
fn encode_all(identity: &Body) -> Vec<Body> {
    let plain = &identity.bytes;
    let limit = plain.len() - plain.len() / WORTH;
    let mut bodies = vec![identity.clone()];
    for (coding, encode) in
        [(Coding::Gzip, gzip as fn(&[u8]) -> _), (Coding::Brotli, br), (Coding::Zstd, zstandard)]
    {
        match encode(plain) {
            Ok(coded) if coded.len() < limit => bodies.push(Body {
                coding,
                etag: coded_etag(&identity.etag, coding.into()),
                bytes: Bytes::from(coded.into_boxed_slice()),
            }),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, %coding, "compressing failed"),
        }
    }
    bodies
}

fn gzip(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(6));
    out.write_all(plain)?;
    out.finish()
}

fn br(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    let params = brotli::enc::BrotliEncoderParams { quality: 6, ..Default::default() };
    let mut out = Vec::new();
    brotli::BrotliCompress(&mut &*plain, &mut out, &params)?;
    Ok(out)
}

fn zstandard(plain: &[u8]) -> std::io::Result<Vec<u8>> {
    zstd::bulk::compress(plain, 7)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &[u8]) -> Body {
        Body { coding: Coding::Identity, etag: "\"x\"".into(), bytes: bytes.to_vec().into() }
    }

    #[test]
    fn codings_decode_to_the_same_bytes() {
        let plain = "<p>the same again</p>".repeat(200);
        let bodies = encode_all(&body(plain.as_bytes()));
        assert_eq!(bodies.len(), 4);
        for coded in &bodies[1..] {
            let mut out = Vec::new();
            match coded.coding {
                Coding::Gzip => {
                    let mut decoder = flate2::read::GzDecoder::new(&*coded.bytes);
                    std::io::copy(&mut decoder, &mut out).unwrap();
                }
                Coding::Brotli => {
                    brotli::BrotliDecompress(&mut &*coded.bytes, &mut out).unwrap();
                }
                _ => out = zstd::bulk::decompress(&coded.bytes, 1 << 20).unwrap(),
            }
            assert_eq!(out, plain.as_bytes(), "{:?}", coded.coding);
            assert_eq!(&*coded.etag, format!("\"x-{}\"", coded.coding));
        }
    }

    #[test]
    fn what_does_not_shrink_is_left_alone() {
        let noise: Vec<u8> = (0..4096).map(|_| fastrand::u8(..)).collect();
        assert_eq!(encode_all(&body(&noise)).len(), 1);
    }
}
