package main

import (
	"mime"
	"strconv"
	"strings"
)

// wish is how much a client wants a kind of answer.
type wish struct {
	// quality is from 0, never, to 1 (RFC 9110).
	quality float64
	// exactness is 0 where any kind will do, 1 for any of its family, 2 where it is named.
	exactness int
}

func (w wish) isMoreThan(other wish) bool {
	if w.quality != other.quality {
		return w.quality > other.quality
	}
	// What nobody wants is not wanted more for being named.
	return w.quality > 0 && w.exactness > other.exactness
}

// prefersJSON tells whether whoever sent these Accept headers would rather have JSON than HTML. Who does not say, or
// wants both alike, is taken for a person.
func prefersJSON(accept []string) bool {
	ranges := strings.Split(strings.Join(accept, ","), ",")
	return wishFor(ranges, "application/problem+json", "application/json").isMoreThan(
		wishFor(ranges, "text/html"))
}

// wishFor is how much any of the types is wanted, at most.
func wishFor(ranges []string, types ...string) wish {
	var most wish
	for _, kind := range types {
		if one := wishForOne(ranges, kind); one.isMoreThan(most) {
			most = one
		}
	}
	return most
}

// wishForOne goes by the range that names the type most exactly, as RFC 9110 has it.
func wishForOne(ranges []string, kind string) wish {
	family, _, _ := strings.Cut(kind, "/")
	exactnessOf := map[string]int{"*/*": 0, family + "/*": 1, kind: 2}
	found := wish{exactness: -1}
	for _, text := range ranges {
		name, parameters, err := mime.ParseMediaType(text)
		if err != nil {
			continue
		}
		exactness, fits := exactnessOf[name]
		if fits && exactness > found.exactness {
			found = wish{quality(parameters), exactness}
		}
	}
	return found
}

func quality(parameters map[string]string) float64 {
	text, isGiven := parameters["q"]
	if !isGiven {
		return 1
	}
	value, err := strconv.ParseFloat(text, 64)
	if err != nil || !(value >= 0 && value <= 1) {
		return 0
	}
	return value
}
