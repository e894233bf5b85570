"""Futures: count words in many texts at once, and add the counts in pairs."""

from __future__ import annotations

from collections import Counter

from distributed import Client

TEXTS = [f"the quick fox {i % 3} jumps over the lazy dog" for i in range(200)]


def count(text: str) -> Counter[str]:
    return Counter(text.split())


def main() -> None:
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        counts = client.map(count, TEXTS)
        while len(counts) > 1:
            pairs = list(zip(counts[::2], counts[1::2], strict=False))
            odd = counts[-1:] if len(counts) % 2 else []
            counts = [client.submit(Counter.__add__, first, second) for first, second in pairs] + odd
        print(counts[0].result().most_common(2))


if __name__ == "__main__":
    main()
