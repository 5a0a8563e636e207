//! Graphs ready to run: tensors in, rows out. External crate: `ort`.
//!
//! Invariants: with one thread a session starts no pool, and the threads of pools have all signals blocked; a run or a
//! load ends soon after the caller is interrupted, because a thread of [`threads`] watches for it.

use std::path::Path;
use std::thread::JoinHandle;

use ort::environment::ThreadManager;
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{Session, SessionOutputs};
use ort::value::Outlet;

use crate::error::{Error, Tower};
use crate::memory::{HEADROOM, headroom, reserve};
use crate::recipe::Pooling;
use crate::runtime::canceler::Canceler;
use crate::runtime::failure::{file_name, inference_failed, is_about_memory, one_line};
use crate::runtime::inputs::{IDS, Inputs, PIXELS, Signature};
use crate::runtime::library::Runtime;
use crate::runtime::provider::Engine;
use crate::runtime::rows::{Rows, floats, pool, shape};
use crate::threads::{self, Interrupted};

/// Starts the pool's threads.
struct Pool;

impl ThreadManager for Pool {
    type Thread = JoinHandle<()>;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        threads::spawn(work).map_err(ort::Error::wrap)
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread.join().map_err(|_| ort::Error::new("a thread of the pool panicked"))
    }
}

/// A graph file in one of two forms.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    /// The publisher's file: optimized at each load, weights copied into this process.
    Published(&'a Path),
    /// The file of [`Graph::prepare`]: optimized, weights in a second file that all processes map.
    Prepared(&'a Path),
}

/// Smallest tensor that is saved outside a prepared graph, in bytes. The packed data of tensors this large fills whole
/// lines of 64 bytes, so that all are aligned. The smaller tensors have a few hundred kilobytes together.
const MIN_MAPPED_BYTES: &str = "65536";

/// One graph, ready to run.
pub(crate) struct Graph {
    session: Session,
    canceler: Canceler,
    /// The output that holds embeddings, and its pooling.
    output: (String, Option<Pooling>),
    model: String,
    /// None if the graph has both towers.
    tower: Option<Tower>,
}

/// An output of a graph: its name and its rank.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    pub name: String,
    pub rank: usize,
}

impl Graph {
    /// Opens the graph of a tower.
    pub(crate) fn open(
        runtime: &Runtime,
        form: Form<'_>,
        (model, tower): (&str, Tower),
        output: (String, Option<Pooling>),
        engine: Engine,
        interrupted: Interrupted,
    ) -> Result<Self, Error> {
        let (file, level) = match form {
            Form::Published(file) => (file, GraphOptimizationLevel::All),
            Form::Prepared(file) => (file, GraphOptimizationLevel::Disable),
        };
        let options = |builder: SessionBuilder| Ok(builder.with_optimization_level(level)?);
        let (session, canceler) = open_session(runtime, file, (model, Some(tower)), engine, options, interrupted)?;
        Ok(Self { session, canceler, output, model: model.into(), tower: Some(tower) })
    }

    /// Saves the graph of a tower, optimized and packed for this processor, as `into`, and its weights as `data` in the
    /// same folder.
    /// No `data` is written if no tensor is large.
    pub(crate) fn prepare(
        runtime: &Runtime,
        file: &Path,
        (model, tower): (&str, Tower),
        (into, data): (&Path, &str),
        interrupted: Interrupted,
    ) -> Result<(), Error> {
        let options = |builder: SessionBuilder| {
            Ok(builder
                .with_optimization_level(GraphOptimizationLevel::All)?
                .with_optimized_model_path(into)?
                .with_config_entry("session.optimized_model_external_initializers_file_name", data)?
                .with_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", MIN_MAPPED_BYTES)?
                .with_config_entry("session.save_external_prepacked_constant_initializers", "1")?)
        };
        open_session(runtime, file, (model, Some(tower)), Engine::cpu(1), options, interrupted).map(drop)
    }

    /// Opens a graph that has both towers.
    pub(crate) fn open_whole(
        runtime: &Runtime,
        file: &Path,
        model: &str,
        threads: usize,
        interrupted: Interrupted,
    ) -> Result<Self, Error> {
        let options = |builder: SessionBuilder| Ok(builder.with_optimization_level(GraphOptimizationLevel::All)?);
        let (session, canceler) =
            open_session(runtime, file, (model, None), Engine::cpu(threads), options, interrupted)?;
        Ok(Self { session, canceler, output: (String::new(), None), model: model.into(), tower: None })
    }

    pub(crate) fn outputs(&self) -> Vec<Output> {
        let output = |output: &Outlet| Output { name: output.name().into(), rank: shape(output.dtype()).len() };
        self.session.outputs().iter().map(output).collect()
    }

    pub(crate) fn canceler(&self) -> &Canceler {
        &self.canceler
    }

    /// Chooses the output that holds embeddings.
    pub(crate) fn choose(&mut self, output: String, pooling: Option<Pooling>) {
        self.output = (output, pooling);
    }

    /// Returns the shape of the input that holds texts or images. A dimension that is not fixed is None.
    pub(crate) fn input_shape(&self) -> Vec<Option<usize>> {
        let names = if self.tower == Some(Tower::Image) { PIXELS } else { IDS };
        let inputs = self.session.inputs();
        let input = inputs.iter().find(|input| names.contains(&input.name())).or(inputs.first());
        // Exports fix a dimension with a number, and leave it open with -1 or a name.
        input.map_or(&[][..], |input| shape(input.dtype())).iter().map(|&size| usize::try_from(size).ok()).collect()
    }

    /// Runs texts of one length: `ids` is `[texts, length]`, and `mask` is false for padding.
    pub(crate) fn run_texts(
        &mut self,
        texts: usize,
        ids: &[u32],
        mask: &[bool],
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let inputs = self.signature().texts(texts, ids, mask)?;
        self.run(texts, inputs, mask, interrupted)
    }

    /// Runs images: `pixels` is `[images, 3, height, width]`.
    pub(crate) fn run_images(
        &mut self,
        images: usize,
        pixels: &[f32],
        size: (u32, u32),
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let inputs = self.signature().images(images, pixels, size)?;
        self.run(images, inputs, &[], interrupted)
    }

    /// Runs texts and one image through a graph that has both towers, and returns the named outputs, of rank 2 each.
    pub(crate) fn run_whole(
        &mut self,
        (texts, ids, mask): (usize, &[u32], &[bool]),
        (pixels, size): (&[f32], (u32, u32)),
        outputs: &[&str],
        interrupted: Interrupted,
    ) -> Result<Vec<Rows>, Error> {
        let mut inputs = self.signature().texts(texts, ids, mask)?;
        inputs.extend(self.signature().images(1, pixels, size)?);
        let found = self.execute(inputs, interrupted, |found| {
            let rows = |&output: &&str| {
                let value = found.get(output).ok_or_else(|| format!("it has no output {output:?}"))?;
                let (shape, values) = floats(value)?;
                match *shape {
                    [_, width] if width > 0 => Ok(Rows { values, width }),
                    _ => Err(format!("the output {output:?} has shape {shape:?}, expected two dimensions")),
                }
            };
            outputs.iter().map(rows).collect()
        })?;
        Ok(found)
    }

    fn run(
        &mut self,
        items: usize,
        inputs: Inputs<'_>,
        mask: &[bool],
        interrupted: Interrupted,
    ) -> Result<Rows, Error> {
        let (output, pooling) = self.output.clone();
        self.execute(inputs, interrupted, |found| {
            let value = found.get(&output).ok_or_else(|| format!("it has no output {output:?}"))?;
            let (shape, values) = floats(value)?;
            match (shape.as_slice(), pooling) {
                (&[rows, width], None) if rows == items && width > 0 => Ok(Rows { values, width }),
                (&[rows, length, width], Some(pooling)) if rows == items && length > 0 && width > 0 => {
                    let mut pooled = reserve(rows * width).map_err(|error| error.to_string())?;
                    for (row, tokens) in values.chunks_exact(length * width).enumerate() {
                        let mask = mask.get(row * length..).and_then(|mask| mask.get(..length));
                        pooled.extend(pool(tokens, width, mask, pooling));
                    }
                    Ok(Rows { values: pooled, width })
                }
                _ => Err(format!("the output has shape {shape:?}, expected [{items}, dimensions]")),
            }
        })
    }

    /// Runs the graph, and returns the result of `make` for its outputs.
    fn execute<T>(
        &mut self,
        inputs: Inputs<'_>,
        interrupted: Interrupted,
        make: impl FnOnce(&SessionOutputs<'_>) -> Result<T, String>,
    ) -> Result<T, Error> {
        headroom(HEADROOM)?;
        let Self { session, canceler, model, tower, .. } = self;
        let failed = |reason: &str| inference_failed(model, *tower, reason);
        let run = canceler.begin().map_err(|error| failed(error.message()))?.ok_or(Error::Interrupted)?;
        let work = || session.run_with_options(inputs, run);
        let outputs = threads::interruptible(interrupted, || canceler.end_run(), work)?
            .map_err(|error| if canceler.is_canceled() { Error::Interrupted } else { failed(error.message()) })?;
        make(&outputs).map_err(|reason| failed(&reason))
    }

    fn signature(&self) -> Signature<'_> {
        Signature { inputs: self.session.inputs(), model: &self.model, tower: self.tower }
    }
}

fn open_session(
    runtime: &Runtime,
    file: &Path,
    (model, tower): (&str, Option<Tower>),
    engine: Engine,
    options: impl FnOnce(SessionBuilder) -> ort::Result<SessionBuilder>,
    interrupted: Interrupted,
) -> Result<(Session, Canceler), Error> {
    let failed = |error: ort::Error| inference_failed(model, tower, error.message());
    let builder = || -> ort::Result<_> {
        let builder = options(Session::builder(&runtime.environment)?)?
            // If a thread of the pool cannot be started, the library opens no session.
            .with_intra_threads(threads::startable(engine.threads))?
            .with_intra_op_spinning(false)?
            .with_thread_manager(Pool)?
            .with_log_level(LogLevel::Fatal)?
            // Texts differ in length, and a pattern would be kept for each length.
            .with_memory_pattern(tower == Some(Tower::Image))?;
        Ok(builder)
    };
    headroom(HEADROOM)?;
    engine.check()?;
    let builder = builder().map_err(failed)?;
    let mut builder = engine.register(builder)?;
    let canceler = builder.canceler();
    let stop = || drop(canceler.cancel());
    let session = threads::interruptible(interrupted, stop, || builder.commit_from_file(file))?.map_err(|error| {
        if is_about_memory(error.message()) {
            return Error::OutOfMemory { bytes: None };
        }
        // The message contains the whole path, which is for superusers only.
        let reason = one_line(error.message()).replace(&*file.to_string_lossy(), &file_name(file));
        Error::invalid(model, &file_name(file), reason)
    })?;
    Ok((session, Canceler::new().map_err(failed)?))
}
