package admin

import "testing"

// What one login costs at the default.
func BenchmarkPasswordVerify(b *testing.B) {
	h := newHasher(DefaultPasswordCost, nil, nil)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := h.verify(b.Context(), "", "a password of nobody"); err != nil {
			b.Fatal(err)
		}
	}
}
