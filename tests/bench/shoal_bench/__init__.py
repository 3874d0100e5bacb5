# SPDX-License-Identifier: Apache-2.0
"""The frame of scripts/bench: what a bench in tests/bench/benches does not have to do itself."""
