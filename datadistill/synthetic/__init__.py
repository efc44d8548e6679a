"""The learned set: synthetic images behind a decoder, their labels and step sizes, and how they are
used."""

from datadistill.synthetic.decoders import DECODERS as DECODERS
from datadistill.synthetic.decoders import Decoder as Decoder
from datadistill.synthetic.decoders import Pixels as Pixels
from datadistill.synthetic.schedule import Schedule as Schedule
from datadistill.synthetic.synthetic import Synthetic as Synthetic
