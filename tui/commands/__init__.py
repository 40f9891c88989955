"""The commands of `hardwallet`, one module a group. Heavy imports stand inside the commands."""
