package dynamo

// AlwaysBatch has every write go through a batch, also one that has no company.
func (t *Table) AlwaysBatch() *Table {
	t.batch.fewest = 1
	return t
}

// Batches reports whether batches are still believed to be had.
func (t *Table) Batches() bool { return !t.batch.off.Load() }

// Queued is how many writes wait for a batch.
func (t *Table) Queued() int {
	t.batch.mu.Lock()
	defer t.batch.mu.Unlock()
	return len(t.batch.queue)
}
