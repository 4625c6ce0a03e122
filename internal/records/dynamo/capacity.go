package dynamo

import (
	"context"
	"errors"
	"math"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/designfultech/filestore/internal/records"
)

// spend makes a request of n writes, when the meter of writes lets it go, and tells that what it
// has cost. send gets what to ask for, and returns what the answer says was consumed.
func (t *Table) spend(ctx context.Context, n int, send func(types.ReturnConsumedCapacity) ([]types.ConsumedCapacity, error)) error {
	if t.writes == nil {
		_, err := send("")
		return err
	}
	done, err := t.writes.BeginBatch(ctx, n)
	if err != nil {
		return err
	}
	consumed, err := send(types.ReturnConsumedCapacityTotal)
	done(writeCost(n, consumed, err))
	return err
}

// updateItem updates an item, when the meter of writes lets it.
func (t *Table) updateItem(ctx context.Context, in *dynamodb.UpdateItemInput, options ...func(*dynamodb.Options)) (out *dynamodb.UpdateItemOutput, err error) {
	err = t.spend(ctx, 1, func(capacity types.ReturnConsumedCapacity) ([]types.ConsumedCapacity, error) {
		in.ReturnConsumedCapacity = capacity
		if out, err = t.client.UpdateItem(ctx, in, options...); err != nil {
			return nil, err
		}
		return list(out.ConsumedCapacity), nil
	})
	return out, err
}

// list is the answer of a call that tells of one table.
func list(c *types.ConsumedCapacity) []types.ConsumedCapacity {
	if c == nil {
		return nil
	}
	return []types.ConsumedCapacity{*c}
}

func writeCost(n int, consumed []types.ConsumedCapacity, err error) records.Cost {
	cost := records.Cost{Requests: 1, Records: int64(n)}
	if err != nil {
		refused, ok := errors.AsType[*types.ConditionalCheckFailedException](err)
		if !ok {
			return records.Cost{} // it was not carried out; or nobody knows
		}
		cost.Units = unitsOf(refused.Item)
		return cost
	}
	told := false
	for _, c := range consumed {
		if c.CapacityUnits != nil {
			told = true
			cost.Units += *c.CapacityUnits
		}
	}
	if !told {
		cost.Units = -1
	}
	return cost
}

// unitsOf is what a write costs that the item has refused, of which no answer tells: a unit for each
// kilobyte of the item, and one where there is none (Amazon DynamoDB Developer Guide, "Capacity unit
// consumption for write operations").
func unitsOf(item map[string]types.AttributeValue) float64 {
	const unit = 1024 // bytes
	size := 0
	for name, value := range item {
		size += len(name)
		switch v := value.(type) {
		case *types.AttributeValueMemberS:
			size += len(v.Value)
		case *types.AttributeValueMemberN:
			size += len(v.Value)/2 + 1
		}
	}
	return max(1, math.Ceil(float64(size)/unit))
}
