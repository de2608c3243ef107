"""The rows of the speed table. A row is a function that measures its ratios and yields an entry for each."""

from .data import in_buckets, waiting_for_data
from .gpu import in_expandable_segments, in_graphs, with_master_weights
from .growth import growth, peak_memory
from .matrix_rate import of_the_matrix_rate
from .model import compiled, over_its_towers, over_the_stock_encoder, pass_for_labels
from .precision import in_reduced_precision
from .prediction import first_prediction, over_a_folder

ROWS = {
    "a": over_its_towers,
    "b": over_the_stock_encoder,
    "c": in_buckets,
    "d": in_reduced_precision,
    "e": pass_for_labels,
    "f": waiting_for_data,
    "g": first_prediction,
    "h": over_a_folder,
    "i": peak_memory,
    "j": growth,
    "k": of_the_matrix_rate,
    "l": compiled,
    "m": in_graphs,
    "n": with_master_weights,
    "o": in_expandable_segments,
}
