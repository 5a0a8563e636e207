#!/bin/sh
# Make the model again and measure it. Usage: train.sh WORKDIR. About an hour on two cores.
# Needs Python 3.11 with requirements.txt, and these Debian packages (versions of Debian 12):
#   apt-get install fonts-noto-color-emoji unicode-cldr-core unicode-data wordnet-base
set -eu
mkdir -p "$1"
workdir=$(realpath "$1")
cd "$(dirname "$0")"
# The order of Python's sets follows the hash seed, and with it the last digits of sums.
export PYTHONHASHSEED=0
rm -f "$workdir/points.pt"

OMP_NUM_THREADS=1 python3 train_text.py "$workdir" &
text=$!
until [ -e "$workdir/points.pt" ]; do
    kill -0 $text
    sleep 5
done
OMP_NUM_THREADS=1 python3 train_image.py "$workdir" --steps 4500
wait $text
# The images take longer to reach their points than the texts: again, from there, on all cores.
python3 train_image.py "$workdir" --steps 7000 --go-on

python3 export.py "$workdir" ..
python3 render_examples.py ../../../examples/emoji.tsv
python3 evaluate.py ..
