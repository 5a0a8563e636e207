# pg_clip: `make help` lists the targets.
PG_CONFIG ?= pg_config

PG_CONFIG_PATH = $(shell command -v $(PG_CONFIG))
PG_MAJOR = $(shell $(PG_CONFIG) --version | grep -oE '[0-9]+' | head -n 1)
PKGLIBDIR = $(DESTDIR)$(shell $(PG_CONFIG) --pkglibdir)
SHAREDIR = $(DESTDIR)$(shell $(PG_CONFIG) --sharedir)
EXTENSIONDIR = $(SHAREDIR)/extension
MODELDIR = $(SHAREDIR)/pg_clip/models/emoji
MODEL_FILES = config.json pg_clip.json preprocessor_config.json tokenizer.json tokenizer_config.json README.md
# Root, or the way to become it: for the targets that set up everything by themselves.
AS_ROOT = $(if $(filter 0,$(shell id -u)),,sudo)

# Build the extension. Needs what `make setup` installs.
all:
	PGRX_PG_CONFIG_PATH="$(PG_CONFIG_PATH)" cargo build --release --features pg$(PG_MAJOR)

# Copy what was built to where pg_config says.
install:
	@test -e target/release/libpg_clip.so || { echo "Build first: make" >&2; exit 1; }
	install -d "$(PKGLIBDIR)/pg_clip" "$(EXTENSIONDIR)" "$(MODELDIR)/onnx"
	# By rename: a server that has the old library open keeps it whole.
	install -m 755 target/release/libpg_clip.so "$(PKGLIBDIR)/pg_clip.so.new"
	mv -f "$(PKGLIBDIR)/pg_clip.so.new" "$(PKGLIBDIR)/pg_clip.so"
	if [ -e target/onnxruntime/libonnxruntime.so ]; then \
		install -m 755 target/onnxruntime/libonnxruntime.so "$(PKGLIBDIR)/pg_clip/libonnxruntime.so.new" && \
		mv -f "$(PKGLIBDIR)/pg_clip/libonnxruntime.so.new" "$(PKGLIBDIR)/pg_clip/libonnxruntime.so" && \
		install -m 644 target/onnxruntime/LICENSE target/onnxruntime/ThirdPartyNotices.txt "$(PKGLIBDIR)/pg_clip"; \
	else \
		echo "ONNX Runtime is not here: run 'make setup', or set clip.onnxruntime_path."; \
	fi
	install -m 644 pg_clip.control sql/pg_clip--*.sql "$(EXTENSIONDIR)"
	install -m 644 $(MODEL_FILES:%=models/emoji/%) "$(MODELDIR)"
	install -m 644 models/emoji/onnx/text_model.onnx models/emoji/onnx/vision_model.onnx "$(MODELDIR)/onnx"

# Remove what `make install` copied.
uninstall:
	rm -f "$(PKGLIBDIR)/pg_clip.so" "$(EXTENSIONDIR)"/pg_clip.control "$(EXTENSIONDIR)"/pg_clip--*.sql
	rm -rf "$(PKGLIBDIR)/pg_clip" "$(MODELDIR)"
	rmdir "$(SHAREDIR)/pg_clip/models" "$(SHAREDIR)/pg_clip" 2>/dev/null || true

# Install what building, demo and tests need. Does only what is missing.
setup:
	scripts/setup.sh

# Set up, build, install, and show what pg_clip does on a throw-away server.
demo: ready
	scripts/demo.sh

# Set up, build, install, and run all tests.
test: ready
	cargo test --release -p clip -p e2e

# The exactness tests at full size: random weights in the shape of ViT-B/32, compared with transformers.
test-full-size: ready
	scripts/full_size.sh

ready: setup
	+$(MAKE) all
	+$(AS_ROOT) $(MAKE) install PG_CONFIG="$(PG_CONFIG_PATH)"

clean:
	rm -rf target

help:
	@awk '/^# /{text = substr($$0, 3)} /^[a-z-]+:/{if (text != "") {sub(":.*", ""); printf "make %-16s %s\n", $$0, text}; text = ""}' Makefile

.PHONY: all install uninstall setup demo test test-full-size ready clean help
