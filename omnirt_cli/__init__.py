"""OmniRT: talking-head videos from external SoulX checkouts, launched, watched, verified and reported."""

__version__ = "0.1.0"
