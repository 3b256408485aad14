"""FID, KID and latency, measured by the tool and never by a trainer."""
