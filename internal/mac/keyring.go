package mac

import (
	"cmp"
	"fmt"
	"slices"
)

// KeyRing is a set of keys, found by their ids. It does not change once made; nil is
// the empty one.
type KeyRing struct {
	ids  []uint32 // ascending
	keys []*Key   // in the same order
}

// NewKeyRing makes a ring. Two keys of one id are an error.
func NewKeyRing(keys ...*Key) (*KeyRing, error) {
	r := &KeyRing{keys: slices.Clone(keys)}
	slices.SortFunc(r.keys, func(a, b *Key) int { return cmp.Compare(a.id, b.id) })
	for i, k := range r.keys {
		if i > 0 && r.ids[i-1] == k.id {
			return nil, fmt.Errorf("key id %d stands for two keys; give each its own", k.id)
		}
		r.ids = append(r.ids, k.id)
	}
	return r, nil
}

// Key finds the key of that id, or nil.
func (r *KeyRing) Key(id uint32) *Key {
	if r == nil {
		return nil
	}
	i, found := slices.BinarySearch(r.ids, id)
	if !found {
		return nil
	}
	return r.keys[i]
}

// Len returns the number of keys.
func (r *KeyRing) Len() int {
	if r == nil {
		return 0
	}
	return len(r.ids)
}
