"""Ranks are chosen here, on the host: ints and spectra in, ints out, never traced."""

from tnjax.ranks._evbmf import EvbmfResult, evbmf
from tnjax.ranks._rate import (
  cp4_rank,
  cp_rank,
  r_cp_rank,
  r_tk_ranks,
  r_tt_ranks,
  shuffled_ranks,
  svd_rank,
  tk_rank,
  tr_rank,
  tt_rank,
  tucker2_ranks,
)
from tnjax.ranks._rules import Energy, Evbmf, Rule, Tolerance, Unfoldings
from tnjax.ranks._spectrum import energy_rank, tail_energies, tail_rank, tolerance_rank
from tnjax.ranks._validate import (
  cp_ranks,
  tr_ranks,
  tt_caps,
  tt_ranks,
  tucker_caps,
  tucker_ranks,
)

__all__ = [
  'Energy',
  'Evbmf',
  'EvbmfResult',
  'Rule',
  'Tolerance',
  'Unfoldings',
  'cp4_rank',
  'cp_rank',
  'cp_ranks',
  'energy_rank',
  'evbmf',
  'r_cp_rank',
  'r_tk_ranks',
  'r_tt_ranks',
  'shuffled_ranks',
  'svd_rank',
  'tail_energies',
  'tail_rank',
  'tk_rank',
  'tolerance_rank',
  'tr_rank',
  'tr_ranks',
  'tt_caps',
  'tt_rank',
  'tt_ranks',
  'tucker2_ranks',
  'tucker_caps',
  'tucker_ranks',
]
