package sqlite

// SetPageSize makes t read n records a statement, so that few records make many pages.
func (t *Table) SetPageSize(n int) { t.page = n }
