"""Exact products of bytes, whatever the processor."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest

from ensemble_fer.errors import UsageError
from ensemble_fer.neighbors import (
    exact_products,
    products,
)
from ensemble_fer.neighbors.products import one_blas_thread


class TestProducts:
    """Exact on any processor; which engine is taken is decided by a self-test."""

    @pytest.fixture(params=["float32", "int8"])
    def engine(self, request):
        if request.param == "int8" and not products.is_exact("int8"):
            pytest.skip("this processor does not multiply bytes exactly (no VNNI); the self-test says so")
        return request.param

    @pytest.mark.parametrize("pixels", [1, 1023, 1024, 1025, 2304, 6912])
    def test_products_are_those_of_integers_even_of_extreme_pixels(self, pixels, engine):
        draw = np.random.default_rng(pixels)
        x = draw.choice(np.array([0, 1, 127, 254, 255], np.uint8), (23, pixels))
        x[0], x[1] = 0, 255  # the largest products there are
        y = draw.integers(0, 256, (37, pixels)).astype(np.uint8)
        as_integers = [rows.astype(np.int64) - 128 for rows in (x, y)]
        assert np.array_equal(exact_products(x, y, engine=engine), as_integers[0] @ as_integers[1].T)

    def test_products_over_several_blocks_of_rows(self, engine):
        x = np.random.default_rng(3).integers(0, 256, (1100, 40)).astype(np.uint8)
        wide = x.astype(np.int64) - 128
        assert np.array_equal(exact_products(x, x, engine=engine), wide @ wide.T)

    def test_what_cannot_be_asked(self):
        with pytest.raises(UsageError, match="exact products hold for at most 131071"):
            exact_products(np.zeros((1, 131072), np.uint8), np.zeros((1, 131072), np.uint8))
        with pytest.raises(UsageError, match="unknown engine of products 'int4'"):
            exact_products(np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8), engine="int4")

    def test_an_engine_that_saturates_is_found_out(self, monkeypatch):
        right = products.ENGINES["float32"]
        assert products.is_exact("float32")
        monkeypatch.setitem(products.ENGINES, "int8", right)
        assert products.is_exact("int8")
        monkeypatch.setitem(products.ENGINES, "int8", lambda x, y: right(x, y) - (right(x, y) > 3e7))
        assert not products.is_exact("int8")
        monkeypatch.setitem(products.ENGINES, "int8", lambda x, y: import_module("no_such_torch"))
        assert not products.is_exact("int8")

    @pytest.mark.parametrize("limit", ["AVX2", "AVX512_CORE", "ALL"])
    def test_whatever_instructions_there_are_the_engine_taken_is_exact(self, limit):
        """With fewer instructions, by the library's own switch, int8 may saturate or be slow."""
        said = subprocess.run(
            [
                *(sys.executable, "-c"),
                "from ensemble_fer.neighbors import products as p\np._claims_int8 = lambda: True\n"
                "print(p.best_engine(), p.is_exact(p.best_engine()), p.is_exact('int8'))",
            ],
            env={**os.environ, "ONEDNN_MAX_CPU_ISA": limit, "ATEN_CPU_CAPABILITY": "avx2"},
            capture_output=True,
            text=True,
            check=True,
            stdin=subprocess.DEVNULL,
        ).stdout.split()
        assert said[1] == "True"
        assert said[0] in products.ENGINES
        assert said[0] == "float32" or said[2] == "True"


def test_blas_has_its_threads_back_after_searches_that_overlap():
    from threadpoolctl import threadpool_info, threadpool_limits

    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]

    with threadpool_limits(2, user_api="blas"):
        before = threads()
        first, second = one_blas_thread(), one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__()
        assert set(threads()) == {1}
        second.__exit__()
        assert threads() == before
