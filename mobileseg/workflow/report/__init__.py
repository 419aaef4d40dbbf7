"""`mobileseg report`: all that is known of runs, gathered for one page."""
