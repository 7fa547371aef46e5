package usage

import "context"

// Step does what Run does each time.
func (r *Recorder) Step(ctx context.Context) error { return r.step(ctx) }

// FoldBatch is how many keys one change of the journal folds.
const FoldBatch = foldBatch
