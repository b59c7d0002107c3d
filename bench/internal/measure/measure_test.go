package measure_test

import (
	"fmt"
	"testing"

	"github.com/onecall-dev/onecall/bench/internal/measure"
)

func TestFiguresAreMedians(t *testing.T) {
	for want, values := range map[float64][]float64{2: {3, 1, 2}, 2.5: {4, 1, 2, 3}, 7: {7}} {
		t.Run(fmt.Sprint(len(values), " values"), func(t *testing.T) {
			var way, twice measure.Way
			for _, value := range values {
				way.Turns = append(way.Turns, measure.Turn{Wall: value})
				twice.Turns = append(twice.Turns, measure.Turn{Wall: 2 * value})
			}
			wall := func(t measure.Turn) float64 { return t.Wall }
			if got := way.Median(wall); got != want {
				t.Errorf("the median of %v is %v, want %v", values, got, want)
			}
			if got := twice.Ratio(&way, wall); got != 2 {
				t.Errorf("the ratio of the double is %v", got)
			}
		})
	}
}
