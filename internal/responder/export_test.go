package responder

// Held counts the clients whose last reply was interleaved, and those that may have
// asked for it.
func (t *Timestamps) Held() (interleaved, tentative int) {
	if t == nil {
		return 0, 0
	}
	for set := range t.sets {
		t.locks.lock(set)
		for _, e := range t.entries[set*timestampAssociativity:][:timestampAssociativity] {
			switch {
			case e.used.confirmed():
				interleaved++
			case e.client != 0:
				tentative++
			}
		}
		t.locks.unlock(set)
	}
	return interleaved, tentative
}
