package boltfile

import (
	"encoding/binary"
	"hash/crc32"
)

// Every value is stored behind a CRC-32C of its bucket, key and bytes, so that
// a flipped bit shows, and so does a record that was moved elsewhere.
const sumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// bucketSeed starts the checksum of every record in a bucket.
func bucketSeed(bucket string) uint32 {
	return crc32.Checksum([]byte(bucket), castagnoli)
}

func recordSum(seed uint32, key, value []byte) uint32 {
	sum := crc32.Update(crc32.Update(seed, castagnoli, key), castagnoli, value)
	// The length of the key tells "ab"+"c" from "a"+"bc".
	return sum ^ uint32(len(key))*0x9e3779b1
}

// seal returns value as it is stored.
func seal(seed uint32, key, value []byte) []byte {
	stored := make([]byte, sumSize+len(value))
	binary.LittleEndian.PutUint32(stored, recordSum(seed, key, value))
	copy(stored[sumSize:], value)
	return stored
}

// unseal returns the value that was stored, a part of stored.
func unseal(seed uint32, key, stored []byte) ([]byte, error) {
	if len(stored) < sumSize {
		return nil, damagedf("a record of %d bytes is shorter than its checksum", len(stored))
	}
	value := stored[sumSize:]
	if recordSum(seed, key, value) != binary.LittleEndian.Uint32(stored) {
		return nil, damagedf("a record fails its checksum")
	}
	return value, nil
}

// term is what one stored record adds to the digest of its bucket. The digest
// is a sum, so it follows each change without reading the rest, and does not
// depend on any order. Mixing spreads the checksum, which is linear, over all
// of the sum.
func term(stored []byte) uint64 {
	x := uint64(binary.LittleEndian.Uint32(stored)) | uint64(len(stored))<<32
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
