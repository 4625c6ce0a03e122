package transfer

import "testing"

// Where the bandwidth is limited, no more requests are in flight than get a share that servers
// have patience for; where it is not, or there is enough of it, as many as ever.
func TestRequestsUnderBandwidth(t *testing.T) {
	const kib, mib = 1 << 10, 1 << 20
	for name, test := range map[string]struct {
		bandwidth     int64
		concurrency   int
		parts, files  int // in flight at first
		mostParts     int
		mostFilesEver int
	}{
		"no limit":       {parts: firstParts, files: probeFiles, mostParts: mostParts, mostFilesEver: mostFiles},
		"very low":       {bandwidth: 64 * kib, parts: 2, files: 2, mostParts: 2, mostFilesEver: 2},
		"low":            {bandwidth: mib, parts: 4, files: probeFiles, mostParts: 4, mostFilesEver: 16},
		"enough":         {bandwidth: 100 * mib, parts: firstParts, files: probeFiles, mostParts: mostParts, mostFilesEver: mostFiles},
		"the user knows": {bandwidth: 64 * kib, concurrency: 9, parts: 9, files: 9, mostParts: 9, mostFilesEver: 9},
	} {
		t.Run(name, func(t *testing.T) {
			e := &Engine{Bandwidth: test.bandwidth, Concurrency: test.concurrency}
			parts, files := e.limiter(MinPartSize), e.limiter(smallFile)
			if parts.Limit() != test.parts || parts.Highest() != test.mostParts {
				t.Errorf("%d parts, at most %d; want %d and %d", parts.Limit(), parts.Highest(), test.parts, test.mostParts)
			}
			if files.Limit() != test.files || files.Highest() != test.mostFilesEver {
				t.Errorf("%d small files, at most %d; want %d and %d", files.Limit(), files.Highest(), test.files, test.mostFilesEver)
			}
			if e.FilesAtOnce() != test.mostFilesEver {
				t.Errorf("%d files at once", e.FilesAtOnce())
			}
		})
	}
}
