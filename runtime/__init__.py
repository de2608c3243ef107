"""What every process here needs: files that are whole or not there, memory, threads, devices."""
