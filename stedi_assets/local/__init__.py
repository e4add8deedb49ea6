"""The embedded S3 server and the synthetic sample."""
