"""What every module may use and what knows nothing of models: safe writing of files, the process, oneDNN."""
