"""Train the demo model's tokenizer: byte-level BPE, 4,096 tokens, id 0 = end of document.

python tools/train_tokenizer.py --data DIR --out assets/models/stories-7M/tokenizer.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tasks.stories import FILES, SEPARATOR, split

VOCABULARY = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the story texts")
    parser.add_argument("--out", type=Path, required=True, help="tokenizer.json to write")
    args = parser.parse_args()

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[SEPARATOR],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    texts = (doc for name in FILES for doc in split(args.data, name)[0])
    tokenizer.train_from_iterator(texts, trainer)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(args.out))

    for name in FILES:
        docs = split(args.data, name)[1]
        n_tokens = sum(len(e.ids) for e in tokenizer.encode_batch(docs))
        n_bytes = sum(len(d.encode()) for d in docs)
        print(f"{name}: {n_bytes / n_tokens:.2f} bytes per token on {len(docs)} held-out documents")


if __name__ == "__main__":
    main()
