\set VERBOSITY default
-- A role with nothing but CONNECT can embed, and sees models, but no paths.
CREATE ROLE nobody_special;
SET ROLE nobody_special;
SELECT vector_dims(clip_embed_text('cat', 'wide'));
SELECT name, dimensions, license, prepared, is_default FROM clip_models WHERE name <> 'emoji';
SELECT item, value FROM clip_diagnose() WHERE item IN ('ONNX Runtime library', 'model path', 'telemetry');
\set VERBOSITY sqlstate
SHOW clip.model_path;
SHOW clip.onnxruntime_path;
SHOW clip.prepared_path;
\set VERBOSITY default
SET clip.model_path = '/tmp';
SET clip.onnxruntime_path = '/tmp/x.so';
SET clip.prepared_path = '/tmp';
SET clip.max_threads = 8;
SET clip.max_image_bytes = '1GB';
SET clip.max_image_pixels = 1000000000;
SET clip.image_formats = 'tiff';
RESET ROLE;
DROP ROLE nobody_special;
